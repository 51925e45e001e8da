// cross_entropy(x @ weight^T + bias) without the logits: the vocabulary comes in blocks, each block's logits in f32, made once for the loss and once more
// for the gradient.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/losses.cuh"
#include "kernels/cuda/products.h"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLogits = int64_t{1} << 25;  // of a block: 128 MiB

struct Cut {
    int64_t rows = 0, width = 0, words = 0, block = 0;
    int64_t blocks() const { return (words + block - 1) / block; }
    int64_t words_of(int64_t i) const { return std::min(block, words - i * block); }
};

Cut cut_of(const Tensor& x, const Tensor& weight) {
    Cut c{x.rows(), x.columns(), weight.dims[0], 0};
    c.block = std::min(c.words, std::max<int64_t>(kLogits / std::max<int64_t>(c.rows, 1) / 128 * 128, 128));
    return c;
}

// What goes on over blocks of a row: its largest logit, the sum of exponentials below it, the label's logit.
__global__ void block_kernel(Rows logits, Any bias, Span<const int32_t> labels, int64_t first_word, bool first, Span<float> most, Span<float> sums, Span<float> own) {
    DS_SHARED(float, memory, 32);
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        float m = -INFINITY, sum = 0;
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) m = fmaxf(m, logits.get(row, j) + (bias.data ? bias.get(first_word + j) : 0.0f));
        m = max_of_block(m, memory);
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) sum += expf(logits.get(row, j) + (bias.data ? bias.get(first_word + j) : 0.0f) - m);
        sum = sum_of_block(sum, memory);
        if (threadIdx.x != 0) continue;
        if (!first) {
            const float before = most.get(row), larger = fmaxf(before, m);
            sum = sums.get(row) * expf(before - larger) + sum * expf(m - larger);
            m = larger;
        }
        most.put(row, m);
        sums.put(row, sum);
        const int64_t at = labels.get(row) - first_word;
        if (at >= 0 && at < logits.columns) own.put(row, logits.get(row, at) + (bias.data ? bias.get(first_word + at) : 0.0f));
    }
}

__global__ void row_zero_kernel(Span<float> x) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < x.n) x.put(i, 0.0f);
}

__global__ void row_losses_kernel(Span<const float> most, Span<const float> sums, Span<const float> own, Span<const int32_t> labels, int32_t ignore, Span<float> lse, Span<float> losses) {
    const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (row >= labels.n) return;
    const float value = most.get(row) + logf(sums.get(row));
    lse.put(row, value);
    losses.put(row, labels.get(row) == ignore ? 0.0f : value - own.get(row));
}

// Logits become their gradient, in the type of x and in f32 beside it where that is another.
__global__ void gradient_kernel(Rows logits, Any bias, Span<const int32_t> labels, int64_t first_word, Span<const float> lse, int32_t ignore, Span<const float> factor, Rows low) {
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        const int64_t label = labels.get(row), at = label - first_word;
        const float scale = label == ignore ? 0.0f : factor.get(0), normaliser = lse.get(row);
        for (int64_t j = threadIdx.x; j < logits.columns; j += blockDim.x) {
            const float z = logits.get(row, j) + (bias.data ? bias.get(first_word + j) : 0.0f);
            const float g = scale == 0 ? 0.0f : (expf(z - normaliser) - (j == at ? 1.0f : 0.0f)) * scale;
            logits.put(row, j, g);
            if (low.present()) low.put(row, j, g);
        }
    }
}

__global__ void column_runs_kernel(Rows x, int64_t run_rows, Span<float> partial) {
    const int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, run = blockIdx.y, begin = run * run_rows, end = begin + run_rows < x.rows ? begin + run_rows : x.rows;
    if (j >= x.columns) return;
    float sum = 0;
    for (int64_t row = begin; row < end; ++row) sum += x.get(row, j);
    partial.put(run * x.columns + j, sum);
}

__global__ void convert_kernel(Rows from, Rows to) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < to.rows * to.columns; i += step) to.put(i / to.columns, i % to.columns, from.get(i / to.columns, i % to.columns));
}
void convert(Queue& q, const Rows& from, const Rows& to) {
    if (to.rows * to.columns > 0) launch(q, blocks_for(to.rows * to.columns, kThreads, 1 << 16), kThreads, 0, convert_kernel, from, to);
}

// Places in scratch, in order.
struct Room {
    int64_t bytes = 0;
    int64_t take(int64_t n) {
        const int64_t at = bytes;
        bytes += round_up(n, 256);
        return at;
    }
};

Rows dense(void* data, DType type, int64_t rows, int64_t columns) { return {{data, rows * columns, type}, rows, columns, columns}; }

// Products of a block of words, whole and last.
struct Products3 {
    std::shared_ptr<Products::Product> logits, dx, dweight;
};

struct State {
    Cut cut;
    DType type = DType::f32;  // of the products' operands
    int64_t logits = 0, low = 0, x = 0, weight = 0, dx = 0, rows_memory = 0, partial = 0;
    bool copies_x = false, copies_weight = false, copies_dx = false;
    Products3 whole, last;
    const Products3& of(int64_t block) const { return cut.words_of(block) == cut.block ? whole : last; }
};

Status make(Products3& p, Products& products, const State& s, const Tensor& x, const Tensor& weight, int64_t words, const Tensor* dweight) {
    const int64_t n = s.cut.rows, d = s.cut.width;
    const Operand xs{s.type, n, d, s.copies_x ? d : x.row_stride, 0}, ws{s.type, words, d, s.copies_weight ? d : weight.row_stride, 0}, zs{DType::f32, n, words, s.cut.block, 0};
    DS_TRY(p.logits, products.prepare({xs, ws, zs, zs, false, true, false, 1}));
    if (!dweight) return ok();
    const Operand gs{s.type, n, words, s.cut.block, 0}, dxs{DType::f32, n, d, d, 0}, dws{DType::f32, words, d, dweight->row_stride, 0};
    DS_TRY(p.dx, products.prepare({gs, ws, dxs, dxs, false, false, false, 1}));
    DS_TRY(p.dweight, products.prepare({gs, xs, dws, dws, true, false, false, 1}));
    return ok();
}

// The operands as the products take them, converted where their types differ.
struct Operands {
    const void *x, *weight;
};
Operands operands(const State& s, const Call& c, Queue& q, const Tensor& x, const Tensor& weight) {
    Operands o{x.data, weight.data};
    if (s.copies_x) convert(q, rows_of(x), dense(c.scratch + s.x, s.type, x.rows(), x.columns())), o.x = c.scratch + s.x;
    if (s.copies_weight) convert(q, rows_of(weight), dense(c.scratch + s.weight, s.type, weight.rows(), weight.columns())), o.weight = c.scratch + s.weight;
    return o;
}
const void* block_of(const State& s, const void* weight, const Tensor& t, int64_t block) {
    return static_cast<const char*>(weight) + block * s.cut.block * (s.copies_weight ? s.cut.width : t.row_stride) * size_of(s.type);
}

Rows logits_of(const State& s, const Call& c, int64_t block) {
    return {{c.scratch + s.logits, (s.cut.rows - 1) * s.cut.block + s.cut.words_of(block), DType::f32}, s.cut.rows, s.cut.words_of(block), s.cut.block};
}

void forward(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const Tensor &x = c.in[0], &weight = c.in[1], &bias = c.in[2], &labels = c.in[3];
    const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
    const int64_t n = s.cut.rows;
    const Span<float> most = scratch<float>(c, s.rows_memory, n), sums = scratch<float>(c, s.rows_memory + 4 * n, n), own = scratch<float>(c, s.rows_memory + 8 * n, n),
                      losses = scratch<float>(c, s.rows_memory + 12 * n, n);
    const auto read = [](Span<float> m) { return Span<const float>{m.data, m.n}; };
    if (n > 0) {
        const Operands o = operands(s, c, q, x, weight);
        launch(q, blocks_for(n, kThreads), kThreads, 0, row_zero_kernel, own);
        for (int64_t block = 0; block < s.cut.blocks(); ++block) {
            q.note(s.of(block).logits->run(q, o.x, block_of(s, o.weight, weight, block), 0, c.scratch + s.logits, c.scratch + s.logits, nullptr));
            launch(q, blocks_for(n, 1), kThreads, 0, block_kernel, logits_of(s, c, block), bias.present ? any(bias) : Any{}, span<const int32_t>(labels), block * s.cut.block, block == 0, most, sums, own);
        }
        launch(q, blocks_for(n, kThreads), kThreads, 0, row_losses_kernel, read(most), read(sums), read(own), span<const int32_t>(labels), ignore, span<float>(c.out[1]), losses);
    }
    mean_of_losses(q, read(losses), span<const int32_t>(labels), ignore, span<float>(c.out[0]));
}

void backward(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const Tensor &x = c.in[1], &weight = c.in[2], &bias = c.in[3], &labels = c.in[4], &dweight_into = c.in[6], &dbias_into = c.in[7];
    const Tensor &dx = c.out[0], &dweight = c.out[1], &dbias = c.out[2];
    const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
    const Span<float> factor = scratch<float>(c, s.rows_memory, 1);
    if (s.cut.rows == 0) return;
    factor_of_gradient(q, span<const float>(c.in[0]), span<const int32_t>(labels), ignore, factor);
    const Operands o = operands(s, c, q, x, weight);
    void* sum = s.copies_dx ? c.scratch + s.dx : static_cast<std::byte*>(dx.data);
    if (dweight_into.present && dweight_into.data != dweight.data) convert(q, rows_of(dweight_into), rows_of(dweight));
    for (int64_t block = 0; block < s.cut.blocks(); ++block) {
        const Products3& p = s.of(block);
        const void* words = block_of(s, o.weight, weight, block);
        const Rows logits = logits_of(s, c, block);
        Rows low = logits;
        low.memory.data = c.scratch + s.low;
        low.memory.type = s.type;
        if (s.type == DType::f32) low = {};
        q.note(p.logits->run(q, o.x, words, 0, c.scratch + s.logits, c.scratch + s.logits, nullptr));
        launch(q, blocks_for(s.cut.rows, 1), kThreads, 0, gradient_kernel, logits, bias.present ? any(bias) : Any{}, span<const int32_t>(labels), block * s.cut.block, span<const float>(c.in[5]), ignore,
               Span<const float>{factor.data, 1}, low);
        const void* g = low.memory.data ? low.memory.data : logits.memory.data;
        q.note(p.dx->run(q, g, words, block == 0 ? 0.0f : 1.0f, sum, sum, nullptr));
        float* to = dweight.as<float>() + block * s.cut.block * dweight.row_stride;
        q.note(p.dweight->run(q, g, o.x, dweight_into.present ? 1.0f : 0.0f, to, to, nullptr));
        if (bias.present) {
            const int64_t runs = runs_of(s.cut.rows), n = logits.columns, at = block * s.cut.block;
            const Span<float> partial = scratch<float>(c, s.partial, runs * n);
            launch(q, dim3(blocks_for(n, kColumnThreads), static_cast<unsigned>(runs)), kColumnThreads, 0, column_runs_kernel, logits, rows_a_run(s.cut.rows), partial);
            Tensor piece = dbias, into = dbias_into;
            for (Tensor* t : {&piece, &into})
                if (t->present) t->data = t->as<float>() + at, t->dims[0] = t->row_stride = n;
            add_runs(q, {partial.data, partial.n}, runs, n, into, piece);
        }
    }
    if (s.copies_dx) convert(q, dense(sum, DType::f32, dx.rows(), dx.columns()), rows_of(dx));
}

Result<Prepared> prepare_either(const Request& r, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor* dx, const Tensor* dweight) {
    auto s = std::make_shared<State>();
    s->cut = cut_of(x, weight);
    s->type = x.dtype == weight.dtype ? x.dtype : DType::f32;
    s->copies_x = x.dtype != s->type;
    s->copies_weight = weight.dtype != s->type;
    Room room;
    const int64_t n = s->cut.rows, elements = n * s->cut.block;
    s->logits = room.take(elements * 4);
    s->rows_memory = room.take(16 * n + 64);
    if (s->copies_x) s->x = room.take(x.count() * size_of(s->type));
    if (s->copies_weight) s->weight = room.take(weight.count() * size_of(s->type));
    if (dx) {
        s->copies_dx = dx->dtype != DType::f32 || !dx->dense();
        if (s->type != DType::f32) s->low = room.take(elements * 2);
        if (s->copies_dx) s->dx = room.take(dx->count() * 4);
        if (bias.present) s->partial = room.take(runs_of(n) * s->cut.block * 4);
    }
    const Phase phase = dx ? static_cast<Phase>(queued<backward>) : static_cast<Phase>(queued<forward>);
    if (n > 0) {
        Products& products = *static_cast<Queue*>(r.queue)->products;
        DS_CHECK(make(s->whole, products, *s, x, weight, s->cut.block, dweight));
        if (s->cut.words % s->cut.block) DS_CHECK(make(s->last, products, *s, x, weight, s->cut.words % s->cut.block, dweight));
    }
    return Prepared{{phase}, s, room.bytes};
}

Result<Prepared> prepare(const Request& r) { return prepare_either(r, r.in[0], r.in[1], r.in[2], nullptr, nullptr); }
Result<Prepared> prepare_grad(const Request& r) { return prepare_either(r, r.in[1], r.in[2], r.in[3], &r.out[0], &r.out[1]); }

constexpr KernelImpl kLinear[] = {{"cublaslt", accepts_floats, prepare}}, kLinearGrad[] = {{"cublaslt", accepts_floats, prepare_grad}};

}  // namespace

extern const KernelList linear_cross_entropy{kLinear}, linear_cross_entropy_grad{kLinearGrad};

}  // namespace ds::cuda
