// linear_cross_entropy: cross-entropy of logits = x @ weight^T + bias, of which never more than a block exists.
//
// Forward: blocks of rows x vocabulary are drawn by ticket; each leaves every row's running sum of exponentials for that part of the
// vocabulary, and the parts are joined in their order. Backward recomputes logits: for each large block the team first makes dlogits =
// (softmax - [label]) scale, then, after a barrier, dx += dlogits @ weight and dweight += dlogits^T @ x. Blocks are cut by sizes alone, so
// results don't depend on the team.
//
// Where the gradient will lie in `kept`, forward leaves the logits of as many rows there as fit, for backward to read before it writes:
// strips of kStrip words, each [rows][its words], begin where the gradients of their words begin.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/logits.h"

namespace ds::cpu {
namespace {

constexpr int64_t kTileRows = 512, kTileElements = 256 * 1024;      // of logits that one thread makes at a time
constexpr int64_t kBlockRows = 1024, kBlockElements = 2048 * 1024;  // of dlogits that the team shares
constexpr int64_t kLine = 64;
constexpr int64_t kStrip = 64;  // divides tiles and blocks
constexpr int64_t kSkew = 16;   // keeps rows of a tile from falling on the same cache sets

int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }
int64_t even(int64_t n, int64_t most) { return parts(n, std::max<int64_t>(parts(n, most), 1)); }

struct Sizes {
    int64_t rows, size, vocabulary;
    int64_t tile_rows, tile_columns;       // of a tile of logits
    int64_t block_rows, block_columns;     // of a block of dlogits (gradient only)
    bool low;                              // dlogits are bf16
    int64_t kept_rows;                     // whose logits go from forward to backward
    int64_t gemm_scratch;                  // of a thread
    int64_t own, own_bytes, shared_bytes;  // where threads' own scratch begins, bytes of each, and of what is shared
    int64_t dx_sums, dbias_sums, dlogits;  // places in the shared part

    int64_t tiles_down(int64_t n) const { return parts(n, tile_rows); }
    int64_t tile_stride() const { return tile_columns + kSkew; }
    int64_t tiles_across(int64_t n) const { return parts(n, tile_columns); }
};

struct Operands {
    const Tensor &x, &weight, &bias, &labels;
};

Sizes base_sizes(const Tensor& x, const Tensor& weight) {
    Sizes s{};
    s.rows = x.rows(), s.size = x.columns(), s.vocabulary = weight.dims[0];
    s.tile_rows = std::max<int64_t>(even(s.rows, kTileRows), 1);
    s.tile_columns = std::clamp<int64_t>(kTileElements / s.tile_rows / 64 * 64, 64, 2048);
    s.low = x.dtype == DType::bf16 && (weight.dtype == DType::bf16 || weight.rounded == DType::bf16);
    s.block_rows = std::max<int64_t>(even(s.rows, kBlockRows), 1);
    return s;
}

// The logits in `kept` of one row and the strip of words that begins at `column`.
float* kept_logits(const Tensor& kept, const Sizes& s, int64_t row, int64_t column) {
    return kept.as<float>() + column * s.size + row * std::min(kStrip, s.vocabulary - column);
}
// Later blocks of rows find gradients there.
int64_t keepable_rows(const Sizes& s) { return std::min({s.rows, s.size, s.block_rows}); }

Gemm logits_gemm(const Operands& o, int64_t rows, int64_t columns, int64_t stride) {
    return Gemm({.m = rows,
                 .n = columns,
                 .k = o.x.columns(),
                 .transpose_b = true,
                 .a_type = o.x.dtype,
                 .b_type = o.weight.dtype,
                 .bias_type = o.bias.dtype,
                 .lda = o.x.row_stride,
                 .ldb = o.weight.row_stride,
                 .ldc = stride,
                 .round_b = o.weight.rounded != DType::f32});
}

// A tile of logits [rows x columns], in f32 with rows tile_stride apart, made with a thread's own scratch.
struct Tile {
    int64_t row, rows, column, columns;
    float* logits;
    float* logits_of(int64_t i, const Sizes& s) const { return logits + i * s.tile_stride(); }
};

// The first `known` rows are left to the caller.
Tile make_tile(const Operands& o, const Sizes& s, int64_t row, int64_t row_end, int64_t column, int64_t column_end, std::byte* own,
               int64_t known = 0) {
    Tile t{row, std::min(s.tile_rows, row_end - row), column, std::min(s.tile_columns, column_end - column),
           reinterpret_cast<float*>(own + s.gemm_scratch)};
    const GemmArgs args{address(o.x, row), address(o.weight, column), t.logits, o.bias.present ? address(o.bias, 0, column) : nullptr};
    logits_gemm(o, t.rows, t.columns, s.tile_stride()).region(args, std::min(known, t.rows), t.rows, 0, t.columns, own);
    return t;
}

// Copies rows of a tile to or from where they are kept.
template <class Copy>
void each_kept(const Tensor& kept, const Sizes& s, const Tile& t, int64_t rows, const Copy& copy) {
    for (int64_t column = 0; column < t.columns; column += kStrip)
        for (int64_t r = 0; r < rows; ++r)
            copy(t.logits_of(r, s) + column, kept_logits(kept, s, t.row + r, t.column + column),
                 static_cast<size_t>(std::min(kStrip, t.columns - column)) * sizeof(float));
}

const Sizes& sizes(const Call& call) { return *static_cast<const Sizes*>(call.state); }
std::byte* own_scratch(const Call& call, Team team) { return call.scratch + sizes(call).own + team.rank * sizes(call).own_bytes; }

// Forward. Scratch: Running [rows][tiles across], label logits [rows], losses [rows], own.
Operands forward_operands(const Call& call) { return {call.in[0], call.in[1], call.in[2], call.in[3]}; }

struct Joined {
    Running* running;
    float *label_logits, *losses;
    Joined(const Call& call) : running(reinterpret_cast<Running*>(call.scratch)) {
        const Sizes& s = sizes(call);
        label_logits = reinterpret_cast<float*>(running + s.rows * s.tiles_across(s.vocabulary));
        losses = label_logits + s.rows;
    }
};

void forward_tiles(const Call& call, Team team) {
    const Sizes& s = sizes(call);
    const Operands o = forward_operands(call);
    const Labels labels(o.labels, call.attrs);
    const Joined joined(call);
    const int64_t across = s.tiles_across(s.vocabulary), count = across * s.tiles_down(s.rows);
    for (int64_t i = call.ticket->fetch_add(1); i < count; i = call.ticket->fetch_add(1)) {
        const Tile t =
            make_tile(o, s, i / across * s.tile_rows, s.rows, i % across * s.tile_columns, s.vocabulary, own_scratch(call, team));
        for (int64_t r = 0; r < t.rows; ++r) {
            const int64_t row = t.row + r, label = labels.data[row] - t.column;
            Running running;
            running.see(t.logits_of(r, s), t.columns);
            joined.running[row * across + i % across] = running;
            if (label >= 0 && label < t.columns) joined.label_logits[row] = t.logits_of(r, s)[label];
        }
        if (t.row < s.kept_rows)
            each_kept(call.out[2], s, t, std::min(t.rows, s.kept_rows - t.row),
                      [](float* tile, float* kept, size_t n) { std::memcpy(kept, tile, n); });
    }
}

void join_tiles(const Call& call, Team team) {
    const Sizes& s = sizes(call);
    const Labels labels(call.in[3], call.attrs);
    const Joined joined(call);
    const int64_t across = s.tiles_across(s.vocabulary);
    const auto [begin, end] = team.part(s.rows);
    for (int64_t row = begin; row < end; ++row) {
        Running all;
        for (int64_t i = 0; i < across; ++i) all.see(joined.running[row * across + i]);
        call.out[1].as<float>()[row] = all.log();
        const bool elsewhere = labels.data[row] < 0;  // a word of another rank's
        joined.losses[row] = labels.ignored(row) ? 0 : elsewhere ? all.log() : all.loss(joined.label_logits[row]);
    }
}

void mean(const Call& call, Team team) {
    if (team.rank == 0) *call.out[0].as<float>() = Labels(call.in[3], call.attrs).mean(Joined(call).losses);
}

Result<Prepared> prepare(const Request& request) {
    const Operands o{request.in[0], request.in[1], request.in[2], request.in[3]};
    auto s = std::make_shared<Sizes>(base_sizes(o.x, o.weight));
    s->kept_rows = request.out.size() > 2 && request.out[2].present ? keepable_rows(*s) : 0;
    s->gemm_scratch = logits_gemm(o, s->tile_rows, s->tile_columns, s->tile_stride()).scratch_bytes(1);
    s->own = round_up(s->rows * (s->tiles_across(s->vocabulary) * static_cast<int64_t>(sizeof(Running)) + 8), kLine);
    s->own_bytes = s->gemm_scratch + round_up(s->tile_rows * s->tile_stride() * 4, kLine);
    const int64_t scratch = s->own + s->own_bytes * request.threads;
    return Prepared{{forward_tiles, join_tiles, mean}, std::move(s), scratch};
}

// Gradient. Scratch: for each thread the number of the block it is at, then what is shared, then own.
Operands gradient_operands(const Call& call) { return {call.in[1], call.in[2], call.in[3], call.in[4]}; }

struct Block {
    int64_t row, rows, column, columns;
    bool first_rows, first_columns, last_columns;
};

int64_t& block_number(const Call& call, Team team) { return *reinterpret_cast<int64_t*>(call.scratch + team.rank * kLine); }

Block block_of(const Call& call, Team team) {
    const Sizes& s = sizes(call);
    const int64_t i = block_number(call, team), across = parts(s.vocabulary, s.block_columns);
    Block b{i / across * s.block_rows, 0, i % across * s.block_columns, 0, i < across, i % across == 0, i % across == across - 1};
    b.rows = std::min(s.block_rows, s.rows - b.row);
    b.columns = std::min(s.block_columns, s.vocabulary - b.column);
    return b;
}

DType dlogits_type(const Sizes& s) { return s.low ? DType::bf16 : DType::f32; }

void begin_blocks(const Call& call, Team team) { block_number(call, team) = 0; }

void make_dlogits(const Call& call, Team team) {
    const Sizes& s = sizes(call);
    const Operands o = gradient_operands(call);
    const Labels labels(o.labels, call.attrs);
    const Block b = block_of(call, team);
    const auto* lse = call.in[5].as<float>();
    const int64_t labelled = labels.labelled(), across = s.tiles_across(b.columns), count = across * s.tiles_down(b.rows);
    const float factor = labelled ? *call.in[0].as<float>() / static_cast<float>(labelled) : 0;
    const DType type = dlogits_type(s);
    for (int64_t i = call.ticket->fetch_add(1); i < count; i = call.ticket->fetch_add(1)) {
        const int64_t down = i / across, first = b.row + down * s.tile_rows, known = std::max<int64_t>(s.kept_rows - first, 0);
        const Tile t = make_tile(o, s, first, b.row + b.rows, b.column + i % across * s.tile_columns, b.column + b.columns,
                                 own_scratch(call, team), known);
        if (known > 0)
            each_kept(call.in[8], s, t, std::min(t.rows, known),
                      [](float* tile, const float* kept, size_t n) { std::memcpy(tile, kept, n); });
        float* sums = reinterpret_cast<float*>(call.scratch + s.dbias_sums) + down * s.block_columns + (t.column - b.column);
        if (o.bias.present) std::fill_n(sums, t.columns, 0.0f);
        for (int64_t r = 0; r < t.rows; ++r) {
            float* values = t.logits_of(r, s);
            const int64_t row = t.row + r, label = labels.data[row] - t.column;
            if (labels.ignored(row)) {
                std::fill_n(values, t.columns, 0.0f);
            } else {
                softmax_of(values, t.columns, lse[row], factor, values);
                if (label >= 0 && label < t.columns) values[label] -= factor;
                if (o.bias.present) add_to(values, t.columns, sums);
            }
        }
        std::byte* to = call.scratch + s.dlogits + ((t.row - b.row) * s.block_columns + t.column - b.column) * float_size(type);
        store_rows(t.logits, s.tile_stride(), t.rows, t.columns, type, to, s.block_columns);
    }
}

Gemm dx_gemm(const Sizes& s, const Tensor& weight, int64_t rows, int64_t columns, DType out, int64_t out_stride, int64_t sums_stride) {
    return Gemm({.m = rows,
                 .n = s.size,
                 .k = columns,
                 .a_type = dlogits_type(s),
                 .b_type = weight.dtype,
                 .c_type = out,
                 .lda = s.block_columns,
                 .ldb = weight.row_stride,
                 .ldc = out_stride,
                 .ld_into = sums_stride,
                 .round_b = weight.rounded != DType::f32});
}

Gemm dweight_gemm(const Sizes& s, const Tensor& x, const Tensor& dweight, const Tensor& into, int64_t rows, int64_t columns) {
    return Gemm({.m = columns,
                 .n = s.size,
                 .k = rows,
                 .transpose_a = true,
                 .a_type = dlogits_type(s),
                 .b_type = x.dtype,
                 .c_type = dweight.dtype,
                 .into_type = into.present ? into.dtype : dweight.dtype,
                 .lda = s.block_columns,
                 .ldb = x.row_stride,
                 .ldc = dweight.row_stride,
                 .ld_into = into.present ? into.row_stride : dweight.row_stride});
}

// dx of the block's rows is summed over the vocabulary in f32: in dx itself, or, where that is narrower, in scratch until the last block.
void add_dx(const Call& call, Team team, const Block& b) {
    const Sizes& s = sizes(call);
    const Tensor &weight = call.in[2], &dx = call.out[0];
    const bool direct = dx.dtype == DType::f32;
    void* sums = direct ? static_cast<void*>(address(dx, b.row)) : call.scratch + s.dx_sums;
    const int64_t sums_stride = direct ? dx.row_stride : s.size;
    GemmArgs args{call.scratch + s.dlogits, address(weight, b.column), b.last_columns ? static_cast<void*>(address(dx, b.row)) : sums,
                  nullptr, b.first_columns ? nullptr : sums};
    const Gemm gemm = b.last_columns ? dx_gemm(s, weight, b.rows, b.columns, dx.dtype, dx.row_stride, sums_stride)
                                     : dx_gemm(s, weight, b.rows, b.columns, DType::f32, sums_stride, sums_stride);
    gemm.run(args, team, own_scratch(call, team));
}

void add_dbias(const Call& call, Team team, const Block& b) {
    const Sizes& s = sizes(call);
    const Tensor &into = call.in[7], &dbias = call.out[2];
    const auto* sums = reinterpret_cast<const float*>(call.scratch + s.dbias_sums);
    const auto [begin, end] = team.part(b.columns, 16);
    for (int64_t i = begin; i < end; ++i) {
        float value;
        float& to = dbias.as<float>()[b.column + i];
        if (b.first_rows) value = into.present ? *read(into, 0, b.column + i, 1, &value) : 0;
        else value = to;
        for (int64_t down = 0; down < s.tiles_down(b.rows); ++down) value += sums[down * s.block_columns + i];
        to = value;
    }
}

void add_dweight(const Call& call, Team team, const Block& b) {
    const Tensor &x = call.in[1], &into = call.in[6], &dweight = call.out[1];
    GemmArgs args{call.scratch + sizes(call).dlogits, address(x, b.row), address(dweight, b.column)};
    const Tensor& addend = b.first_rows ? into : dweight;
    if (addend.present) args.into = address(addend, b.column);
    dweight_gemm(sizes(call), x, dweight, addend, b.rows, b.columns).run(args, team, own_scratch(call, team));
}

void add_gradients(const Call& call, Team team) {
    const Block b = block_of(call, team);
    add_dx(call, team, b);
    if (call.out[1].present) add_dweight(call, team, b);
    if (call.in[3].present) add_dbias(call, team, b);
    ++block_number(call, team);
}

void place_gradient_scratch(const Request& request, const Operands& o, Sizes& s) {
    const Tensor &dx = request.out[0], &dweight = request.out[1];
    s.dx_sums = request.threads * kLine;
    s.dbias_sums = s.dx_sums + round_up(dx.dtype == DType::f32 ? 0 : s.block_rows * s.size * 4, kLine);
    s.dlogits = s.dbias_sums + round_up(o.bias.present ? s.tiles_down(s.block_rows) * s.block_columns * 4 : 0, kLine);
    s.own = s.dlogits + round_up(s.block_rows * s.block_columns * float_size(dlogits_type(s)), kLine);
    s.gemm_scratch = logits_gemm(o, s.tile_rows, s.tile_columns, s.tile_stride()).scratch_bytes(1);
    int64_t own = s.gemm_scratch + round_up(s.tile_rows * s.tile_stride() * 4, kLine);
    const auto rest = [](int64_t n, int64_t size) { return n > size && n % size ? n % size : std::min(n, size); };
    for (const int64_t rows : {std::min(s.rows, s.block_rows), rest(s.rows, s.block_rows)})
        for (const int64_t columns : {std::min(s.vocabulary, s.block_columns), rest(s.vocabulary, s.block_columns)}) {
            for (const DType type : {DType::f32, dx.dtype})
                own = std::max(own, dx_gemm(s, o.weight, rows, columns, type, 0, 0).scratch_bytes(request.threads));
            if (dweight.present) own = std::max(own, dweight_gemm(s, o.x, dweight, dweight, rows, columns).scratch_bytes(request.threads));
        }
    s.own_bytes = round_up(own, kLine);
}

Result<Prepared> prepare_grad(const Request& request) {
    const Operands o{request.in[1], request.in[2], request.in[3], request.in[4]};
    auto s = std::make_shared<Sizes>(base_sizes(o.x, o.weight));
    s->block_columns = round_up(std::max<int64_t>(even(s->vocabulary, std::max<int64_t>(kBlockElements / s->block_rows, 256)), 1), kStrip);
    s->kept_rows = request.in.size() > 8 && request.in[8].present ? keepable_rows(*s) : 0;
    // Several tiles a block, so that a team has something to share.
    s->tile_rows = std::min(s->tile_rows, s->block_rows);
    s->tile_columns = std::clamp<int64_t>(kTileElements / 2 / s->tile_rows / 64 * 64, 64, 512);
    place_gradient_scratch(request, o, *s);

    Prepared prepared{{begin_blocks}, nullptr, s->own + s->own_bytes * request.threads};
    const int64_t blocks = parts(s->rows, s->block_rows) * parts(s->vocabulary, s->block_columns);
    for (int64_t i = 0; i < blocks; ++i) {
        prepared.phases.push_back(make_dlogits);
        prepared.phases.push_back(add_gradients);
    }
    prepared.state = std::move(s);
    return prepared;
}

const char* declines_types(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    if (!is_simd_float(x.dtype) || !is_simd_float(weight.dtype)) return "x or weight is not f32, bf16 or f16";
    if (const char* why = declines_rounding(x, weight)) return why;
    return bias.present && !is_simd_float(bias.dtype) ? "bias is not f32, bf16 or f16" : nullptr;
}
const char* declines(const Request& r) { return declines_types(r.in[0], r.in[1], r.in[2]); }
const char* declines_grad(const Request& r) {
    if (!is_simd_float(r.out[0].dtype)) return "dx is not f32, bf16 or f16";
    if (r.out[1].present && r.out[1].dtype != DType::f32) return "dweight is not f32";
    if (r.in[3].present && r.out[2].dtype != DType::f32) return "dbias is not f32";
    if (r.in[1].count() == 0) return "there are no rows";
    return declines_types(r.in[1], r.in[2], r.in[3]);
}

constexpr KernelImpl kForward[] = {{.name = "blocks", .declines = declines, .prepare = prepare, .rounds = true}};
constexpr KernelImpl kGradient[] = {{.name = "blocks", .declines = declines_grad, .prepare = prepare_grad, .rounds = true}};

}  // namespace

const KernelList linear_cross_entropy{kForward};
const KernelList linear_cross_entropy_grad{kGradient};

}  // namespace ds::cpu
