// cross_entropy(x @ weight^T + bias) without the logits: the vocabulary comes in blocks, each block's logits in f32, made once for the loss
// and once more for the gradient.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/losses.cuh"
#include "kernels/cuda/products.h"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLogits = int64_t{1} << 25;  // of a block: 128 MiB

// Blocks of words, all of one size, as products want multiples of 8. They cover more words than there are: the first one ends with the last
// word and begins with `shared` words that a later block has, too, and that count nothing in it. As it comes first, what it leaves for them
// is overwritten or added to.
struct Cut {
    int64_t rows = 0, width = 0, words = 0, block = 0, blocks = 0, stride = 0;  // stride: of a row of logits
    int64_t first_word(int64_t i) const { return i == 0 ? words - block : (i - 1) * block; }
    int64_t shared(int64_t i) const { return i == 0 ? blocks * block - words : 0; }
};

Cut cut_of(const Tensor& x, const Tensor& weight) {
    Cut c{x.rows(), x.columns(), weight.dims[0]};
    const int64_t most = std::max<int64_t>(kLogits / std::max<int64_t>(c.rows, 1) / 128 * 128, 128);
    c.blocks = (c.words + most - 1) / most;
    if (c.blocks == 1 && c.words % 8 != 0 && c.words > 256) c.blocks = 2;
    c.block = c.blocks <= 1 ? c.words : round_up((c.words + c.blocks - 1) / c.blocks, 128);
    c.stride = round_up(c.block, 8);
    return c;
}

// A block of logits as kernels see it.
struct Logits {
    Span<float> memory;
    int64_t rows, stride;
    int columns, shared;
    int64_t first_word;
    Any bias;

    // Elements j to j + 3 of a row that begins at a multiple of four; -inf behind its end.
    DS_DEVICE Four load(int64_t row, int j) const {
        if (j + 4 <= columns) return load4(memory, row * stride + j);
        Four z;
        for (int k = 0; k < 4; ++k) z.x[k] = j + k < columns ? memory.get(row * stride + j + k) : -INFINITY;
        return z;
    }
    // With the bias; -inf where words count nothing here.
    DS_DEVICE void finish(Four& z, int j) const {
        if (bias.data)
            for (int k = 0; k < 4; ++k) z.x[k] += j + k < columns ? bias.get(first_word + j + k) : 0.0f;
        if (j < shared)
            for (int k = 0; k < 4; ++k) z.x[k] = j + k < shared ? -INFINITY : z.x[k];
    }
    // What lies between a row's end and the next row's begin is nobody's.
    template <class T>
    DS_DEVICE void store(Span<T> to, int64_t row, int j, const Four& v) const {
        store4(to, row * stride + j, v);
    }
    // The label's column; -1: in another block, or nowhere.
    DS_DEVICE int column_of(int64_t label) const {
        const int64_t at = label - first_word;
        return at >= shared && at < columns ? static_cast<int>(at) : -1;
    }
};

constexpr int kAhead = 4;  // fours that a thread loads before it looks at any

// What goes on over blocks of a row: its largest logit, the sum of exponentials below it, the label's logit. Logits are read once: a thread
// keeps the largest of its own so far.
__global__ void __launch_bounds__(kThreads)
    block_kernel(Logits logits, Span<const int32_t> labels, bool first, Span<float> most, Span<float> sums, Span<float> own) {
    DS_SHARED(float, memory, 32);
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        float before = -INFINITY, sum_before = 0;
        if (threadIdx.x == 0) {
            if (!first) before = most.get(row), sum_before = sums.get(row);
            const int at = logits.column_of(labels.get(row));
            if (at >= 0)
                own.put(row,
                        logits.memory.get(row * logits.stride + at) + (logits.bias.data ? logits.bias.get(logits.first_word + at) : 0.0f));
        }
        float m = -INFINITY, sum = 0;
        for (int from = 4 * static_cast<int>(threadIdx.x); from < logits.columns; from += 4 * kThreads * kAhead) {
            Four z[kAhead];
#pragma unroll
            for (int a = 0; a < kAhead; ++a)
                z[a] = from + 4 * kThreads * a < logits.columns ? logits.load(row, from + 4 * kThreads * a)
                                                                : Four{{-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
#pragma unroll
            for (int a = 0; a < kAhead; ++a)
                if (from + 4 * kThreads * a < logits.columns) logits.finish(z[a], from + 4 * kThreads * a);
            float larger = m;
#pragma unroll
            for (int a = 0; a < kAhead; ++a) larger = fmaxf(larger, fmaxf(fmaxf(z[a].x[0], z[a].x[1]), fmaxf(z[a].x[2], z[a].x[3])));
            const float base = larger == -INFINITY ? 0.0f : larger;  // nothing yet: every term is e^-inf
            sum *= fast_exp(m - base);
#pragma unroll
            for (int a = 0; a < kAhead; ++a)
                for (int k = 0; k < 4; ++k) sum += fast_exp(z[a].x[k] - base);
            m = larger;
        }
        const float larger = max_of_block(m, memory), base = larger == -INFINITY ? 0.0f : larger;
        sum = sum_of_block(sum * fast_exp(m - base), memory);
        if (threadIdx.x != 0) continue;
        const float all = fmaxf(before, larger), all_base = all == -INFINITY ? 0.0f : all;
        most.put(row, all);
        sums.put(row, sum_before * fast_exp(before - all_base) + sum * fast_exp(larger - all_base));
    }
}

__global__ void row_zero_kernel(Span<float> x) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < x.n) x.put(i, 0.0f);
}

__global__ void row_losses_kernel(Span<const float> most, Span<const float> sums, Span<const float> own, Span<const int32_t> labels,
                                  int32_t ignore, Span<float> lse, Span<float> losses) {
    const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (row >= labels.n) return;
    const float value = most.get(row) + logf(sums.get(row));
    lse.put(row, value);
    losses.put(row, labels.get(row) == ignore ? 0.0f : value - own.get(row));
}

// Logits become their gradient: in the products' type T where that is not f32, and in f32 in their place where somebody reads that
// (`keeps`).
template <class T>
__global__ void __launch_bounds__(kThreads) gradient_kernel(Logits logits, Span<const int32_t> labels, Span<const float> lse,
                                                            int32_t ignore, Span<const float> factor, Span<T> low, bool keeps) {
    for (int64_t row = blockIdx.x; row < logits.rows; row += gridDim.x) {
        const int32_t label = labels.get(row);
        const int at = logits.column_of(label);
        const float scale = label == ignore ? 0.0f : factor.get(0), normaliser = lse.get(row);
        for (int from = 4 * static_cast<int>(threadIdx.x); from < logits.columns; from += 4 * kThreads * kAhead) {
            Four z[kAhead] = {};
#pragma unroll
            for (int a = 0; a < kAhead; ++a)
                if (const int j = from + 4 * kThreads * a; scale != 0 && j < logits.columns) z[a] = logits.load(row, j);
#pragma unroll
            for (int a = 0; a < kAhead; ++a) {
                const int j = from + 4 * kThreads * a;
                if (j >= logits.columns) continue;
                logits.finish(z[a], j);
                for (int k = 0; k < 4; ++k)
                    z[a].x[k] = scale == 0 ? 0.0f : (fast_exp(z[a].x[k] - normaliser) - (j + k == at ? 1.0f : 0.0f)) * scale;
                if (keeps) logits.store(logits.memory, row, j, z[a]);
                if constexpr (!std::is_same_v<T, float>) logits.store(low, row, j, z[a]);
            }
        }
    }
}

__global__ void column_runs_kernel(Rows x, int64_t run_rows, Span<float> partial) {
    const int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, run = blockIdx.y, begin = run * run_rows,
                  end = begin + run_rows < x.rows ? begin + run_rows : x.rows;
    if (j >= x.columns) return;
    float sum = 0;
    for (int64_t row = begin; row < end; ++row) sum += x.get(row, j);
    partial.put(run * x.columns + j, sum);
}

__global__ void convert_kernel(Rows from, Rows to, bool fours) {
    for (int64_t row = blockIdx.x; row < to.rows; row += gridDim.x) {
        if (fours)
            for (int64_t j = 4 * threadIdx.x; j < to.columns; j += 4 * blockDim.x)
                store4(to.memory, row * to.stride + j, load4(from.memory, row * from.stride + j));
        else
            for (int64_t j = threadIdx.x; j < to.columns; j += blockDim.x) to.put(row, j, from.get(row, j));
    }
}
void convert(Queue& q, const Rows& from, const Rows& to) {
    const bool fours = wide_rows(from) && wide_rows(to);
    const auto threads = static_cast<unsigned>(std::clamp<int64_t>(round_up(fours ? to.columns / 4 : to.columns, kWarp), kWarp, kThreads));
    if (to.rows * to.columns > 0) launch(q, striding_blocks(to.rows, 1), threads, 0, convert_kernel, from, to, fours);
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

struct State {
    Cut cut;
    DType type = DType::f32;  // of the products' operands
    int64_t logits = 0, low = 0, x = 0, weight = 0, dx = 0, rows_memory = 0, partial = 0;
    bool copies_x = false, copies_weight = false, copies_dx = false;
    std::shared_ptr<Products::Product> to_logits, to_dx, to_dweight;  // of a block of words
};

// dweight: of the gradient, which leaves it out where it is absent.
Status make(State& s, Products& products, const Tensor& x, const Tensor& weight, const Tensor* dweight) {
    const int64_t n = s.cut.rows, d = s.cut.width, words = s.cut.block;
    const Operand xs{s.type, n, d, s.copies_x ? d : x.row_stride, 0}, ws{s.type, words, d, s.copies_weight ? d : weight.row_stride, 0},
        zs{DType::f32, n, words, s.cut.stride, 0};
    DS_TRY(s.to_logits, products.prepare({xs, ws, zs, zs, false, true, false, 1}));
    if (!dweight) return ok();
    const Operand gs{s.type, n, words, s.cut.stride, 0}, dxs{DType::f32, n, d, d, 0};
    DS_TRY(s.to_dx, products.prepare({gs, ws, dxs, dxs, false, false, false, 1}));
    if (!dweight->present) return ok();
    const Operand dws{DType::f32, words, d, dweight->row_stride, 0};
    DS_TRY(s.to_dweight, products.prepare({gs, xs, dws, dws, true, false, false, 1}));
    return ok();
}

// The operands as the products take them, converted where their types differ.
struct Operands {
    const void *x, *weight;
};
Operands operands(const State& s, const Call& c, Queue& q, const Tensor& x, const Tensor& weight) {
    Operands o{x.data, weight.data};
    if (s.copies_x) convert(q, rows_of(x), dense(c.scratch + s.x, s.type, x.rows(), x.columns())), o.x = c.scratch + s.x;
    if (s.copies_weight)
        convert(q, rows_of(weight), dense(c.scratch + s.weight, s.type, weight.rows(), weight.columns())), o.weight = c.scratch + s.weight;
    return o;
}
const void* block_of(const State& s, const void* weight, const Tensor& t, int64_t block) {
    return static_cast<const char*>(weight) + s.cut.first_word(block) * (s.copies_weight ? s.cut.width : t.row_stride) * size_of(s.type);
}

Logits logits_of(const State& s, const Call& c, const Tensor& bias, int64_t block) {
    const Cut& cut = s.cut;
    return {scratch<float>(c, s.logits, cut.rows * cut.stride),
            cut.rows,
            cut.stride,
            static_cast<int>(cut.block),
            static_cast<int>(cut.shared(block)),
            cut.first_word(block),
            bias.present ? any(bias) : Any{}};
}

void forward(const Call& c, Queue& q) {
    const auto& s = *static_cast<const State*>(c.state);
    const Tensor &x = c.in[0], &weight = c.in[1], &bias = c.in[2], &labels = c.in[3];
    const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
    const int64_t n = s.cut.rows;
    const Span<float> most = scratch<float>(c, s.rows_memory, n), sums = scratch<float>(c, s.rows_memory + 4 * n, n),
                      own = scratch<float>(c, s.rows_memory + 8 * n, n), losses = scratch<float>(c, s.rows_memory + 12 * n, n);
    const auto read = [](Span<float> m) { return Span<const float>{m.data, m.n}; };
    if (n > 0) {
        const Operands o = operands(s, c, q, x, weight);
        launch(q, blocks_for(n, kThreads), kThreads, 0, row_zero_kernel, own);
        for (int64_t block = 0; block < s.cut.blocks; ++block) {
            q.note(s.to_logits->run(q, o.x, block_of(s, o.weight, weight, block), 0, c.scratch + s.logits, c.scratch + s.logits, nullptr));
            launch(q, striding_blocks(n, 1), kThreads, 0, block_kernel, logits_of(s, c, bias, block), span<const int32_t>(labels),
                   block == 0, most, sums, own);
        }
        launch(q, blocks_for(n, kThreads), kThreads, 0, row_losses_kernel, read(most), read(sums), read(own), span<const int32_t>(labels),
               ignore, span<float>(c.out[1]), losses);
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
    for (int64_t block = 0; block < s.cut.blocks; ++block) {
        const void* words = block_of(s, o.weight, weight, block);
        const Logits logits = logits_of(s, c, bias, block);
        q.note(s.to_logits->run(q, o.x, words, 0, c.scratch + s.logits, c.scratch + s.logits, nullptr));
        const auto take_gradient = [&]<class T>(T*) {
            const Span<T> low = scratch<T>(c, s.low, logits.memory.n);
            launch(q, striding_blocks(s.cut.rows, 1), kThreads, 0, gradient_kernel<T>, logits, span<const int32_t>(labels),
                   span<const float>(c.in[5]), ignore, Span<const float>{factor.data, 1}, low, s.type == DType::f32 || bias.present);
        };
        if (s.type == DType::bf16) take_gradient(static_cast<bf16*>(nullptr));
        else if (s.type == DType::f16) take_gradient(static_cast<f16*>(nullptr));
        else take_gradient(static_cast<float*>(nullptr));
        const void* g = c.scratch + (s.type == DType::f32 ? s.logits : s.low);
        q.note(s.to_dx->run(q, g, words, block == 0 ? 0.0f : 1.0f, sum, sum, nullptr));
        if (dweight.present) {
            float* to = dweight.as<float>() + logits.first_word * dweight.row_stride;
            q.note(s.to_dweight->run(q, g, o.x, dweight_into.present ? 1.0f : 0.0f, to, to, nullptr));
        }
        if (bias.present) {
            const int64_t runs = runs_of(s.cut.rows), n = s.cut.block, at = logits.first_word;
            const Span<float> partial = scratch<float>(c, s.partial, runs * n);
            launch(q, dim3(blocks_for(n, kColumnThreads), static_cast<unsigned>(runs)), kColumnThreads, 0, column_runs_kernel,
                   Rows{{logits.memory.data, logits.memory.n, DType::f32}, s.cut.rows, n, s.cut.stride}, rows_a_run(s.cut.rows), partial);
            Tensor piece = dbias, into = dbias_into;
            for (Tensor* t : {&piece, &into})
                if (t->present) t->data = t->as<float>() + at, t->dims[0] = t->row_stride = n;
            add_runs(q, {partial.data, partial.n}, runs, n, into, piece);
        }
    }
    if (s.copies_dx) convert(q, dense(sum, DType::f32, dx.rows(), dx.columns()), rows_of(dx));
}

Result<Prepared> prepare_either(const Request& r, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor* dx,
                                const Tensor* dweight) {
    auto s = std::make_shared<State>();
    s->cut = cut_of(x, weight);
    s->type = x.dtype == weight.dtype ? x.dtype : DType::f32;
    s->copies_x = x.dtype != s->type;
    s->copies_weight = weight.dtype != s->type;
    Room room;
    const int64_t n = s->cut.rows, elements = n * s->cut.stride;
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
    if (n > 0) { DS_CHECK(make(*s, *static_cast<Queue*>(r.queue)->products, x, weight, dweight)); }
    return Prepared{{phase}, s, room.bytes};
}

Result<Prepared> prepare(const Request& r) { return prepare_either(r, r.in[0], r.in[1], r.in[2], nullptr, nullptr); }
Result<Prepared> prepare_grad(const Request& r) { return prepare_either(r, r.in[1], r.in[2], r.in[3], &r.out[0], &r.out[1]); }

constexpr KernelImpl kLinear[] = {{"cublaslt", accepts_floats, prepare}}, kLinearGrad[] = {{"cublaslt", accepts_floats, prepare_grad}};

}  // namespace

extern const KernelList linear_cross_entropy{kLinear}, linear_cross_entropy_grad{kLinearGrad};

}  // namespace ds::cuda
