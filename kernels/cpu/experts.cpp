// Products by group and weighted sums of mixture of experts. A product is one of gemm.h's for each expert, whose rows are known only now: a
// work item is an expert and a strip of columns, drawn by ticket.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/map.h"
#include "ops/attrs.h"

namespace ds::cpu {
namespace {

constexpr int64_t kStrip = 256;  // columns of an item

struct State {
    Gemm gemm;            // as if one expert had all rows
    int64_t scratch = 0;  // of a thread
};

struct Group {
    int64_t first, end;
};
Group group_of(const Tensor& ends, int64_t expert, int64_t rows) {
    const auto at = [&](int64_t i) { return std::clamp<int64_t>(ends.as<int32_t>()[i], 0, rows); };
    return {at(expert), std::max(at(expert), at(expert + 1))};
}

void multiply(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &x = call.in[0], &ends = call.in[1], &y = call.out[0];
    std::byte* scratch = call.scratch + team.rank * s.scratch;
    const int64_t experts = ends.count() - 1, strips = (y.columns() + kStrip - 1) / kStrip;
    for (int64_t i = call.ticket->fetch_add(1); i < experts * strips; i = call.ticket->fetch_add(1)) {
        const Group g = group_of(ends, i / strips, x.rows());
        const int64_t column = i % strips * kStrip;
        s.gemm.region({x.data, call.in[2 + i / strips].data, y.data, nullptr, nullptr}, g.first, g.end, column,
                      std::min(column + kStrip, y.columns()), scratch);
    }
    const int64_t covered = group_of(ends, experts - 1, x.rows()).end;
    const auto [begin, end] = team.part(y.rows() - covered);
    for (int64_t row = covered + begin; row < covered + end; ++row)
        std::memset(address(y, row), 0, static_cast<size_t>(y.columns() * float_size(y.dtype)));
}

Result<Prepared> prepare(const Request& request) {
    const Tensor &x = request.in[0], &w = request.in[2], &y = request.out[0];
    GemmShape g{
        .m = x.rows(),
        .n = y.columns(),
        .k = x.columns(),
        .transpose_b = request.attr<Matmul>().transpose_b,
        .a_type = x.dtype,
        .b_type = w.dtype,
        .c_type = y.dtype,
        .lda = x.row_stride,
        .ldb = w.row_stride,
        .ldc = y.row_stride,
        .round_b = w.rounded != DType::f32,
    };
    auto state = std::make_shared<State>(State{Gemm(g), 0});
    state->scratch = state->gemm.scratch_bytes(1);
    const int64_t scratch = state->scratch * request.threads;
    return Prepared{{multiply}, std::move(state), scratch};
}

// dw = x^T dy of the expert's rows, or its transpose. The rows are what is summed over: the product's shape is known only now.
GemmShape gradient_shape(const Tensor& dy, const Tensor& x, const Tensor& dw, bool transposed, int64_t rows) {
    const Tensor &a = transposed ? dy : x, &b = transposed ? x : dy;
    return {.m = a.columns(),
            .n = b.columns(),
            .k = rows,
            .transpose_a = true,
            .a_type = a.dtype,
            .b_type = b.dtype,
            .c_type = dw.dtype,
            .lda = a.row_stride,
            .ldb = b.row_stride,
            .ldc = dw.row_stride};
}

void multiply_grad(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &dy = call.in[0], &x = call.in[1], &ends = call.in[2];
    const bool transposed = call.attr<Matmul>().transpose_b;
    std::byte* scratch = call.scratch + team.rank * s.scratch;
    const int64_t experts = ends.count() - 1, columns = call.out[0].columns(), strips = (columns + kStrip - 1) / kStrip;
    for (int64_t i = call.ticket->fetch_add(1); i < experts * strips; i = call.ticket->fetch_add(1)) {
        const Group g = group_of(ends, i / strips, x.rows());
        const Tensor& dw = call.out[i / strips];
        const Gemm gemm(gradient_shape(dy, x, dw, transposed, g.end - g.first));
        const int64_t column = i % strips * kStrip;
        gemm.region({address(transposed ? dy : x, g.first), address(transposed ? x : dy, g.first), dw.data, nullptr, nullptr}, 0, dw.rows(),
                    column, std::min(column + kStrip, columns), scratch);
    }
}

Result<Prepared> prepare_grad(const Request& request) {
    // The number of terms is known only now: of fewer terms come blocks with at most twice the columns.
    const Gemm most(gradient_shape(request.in[0], request.in[1], request.out[0], request.attr<Matmul>().transpose_b, request.in[0].rows()));
    auto state = std::make_shared<State>(State{most, 3 * most.scratch_bytes(1)});
    const int64_t scratch = state->scratch * request.threads;
    return Prepared{{multiply_grad}, std::move(state), scratch};
}

const char* declines(const Request& request) {
    for (const Tensor& t : request.in)
        if (t.dtype != DType::i32 && !is_simd_float(t.dtype)) return "an input is not f32, bf16 or f16";
    for (const Tensor& t : request.in)
        if (t.dtype == DType::i32 && !t.dense()) return "integers lie apart";
    return is_simd_float(request.out[0].dtype) ? nullptr : "the output is not f32, bf16 or f16";
}

// Weights that lie apart have another distance each.
const char* declines_grouped(const Request& request) {
    const Tensor& first = request.in[2];
    for (const Tensor& w : request.in.subspan(3))
        if (w.row_stride != first.row_stride || w.dtype != first.dtype || w.rounded != first.rounded)
            return "weights differ in type or in the distance of rows";
    const char* why = declines_rounding(request.in[0], first);
    return why ? why : declines(request);
}
const char* declines_grad(const Request& request) {
    for (const Tensor& t : request.out)
        if (t.dtype != DType::f32) return "a gradient is not f32";
    return declines(request);
}

constexpr int64_t kColumns = 512;

void add_weighted(const Call& call, Team team) {
    const Tensor &x = call.in[0], &weights = call.in[1], &places = call.in[2], &y = call.out[0];
    const int64_t k = places.columns(), n = y.columns();
    const auto [begin, end] = team.part(y.rows());
    for (int64_t t = begin; t < end; ++t) {
        float w[64];
        to_f32(address(weights, t), weights.dtype, std::min<int64_t>(k, 64), w);
        for (int64_t c = 0; c < n; c += kColumns) {
            alignas(64) float sum[kColumns] = {}, buffer[kColumns];
            const int64_t part = std::min(kColumns, n - c);
            for (int64_t j = 0; j < k; ++j) {
                const int32_t row = places.as<int32_t>()[t * k + j];
                if (row < 0) continue;
                to_f32(address(x, row) + c * float_size(x.dtype), x.dtype, part, buffer);
                for (int64_t i = 0; i < part; ++i) sum[i] += w[j] * buffer[i];
            }
            from_f32(sum, part, y.dtype, address(y, t) + c * float_size(y.dtype));
        }
    }
}

// Each row of x is at one place at most; the others have no gradient.
void clear(const Call& call, Team team) {
    const Tensor& dx = call.out[0];
    const auto [begin, end] = team.part(dx.rows());
    for (int64_t row = begin; row < end; ++row) std::memset(address(dx, row), 0, static_cast<size_t>(dx.columns() * float_size(dx.dtype)));
}

void add_weighted_grad(const Call& call, Team team) {
    const Tensor &dy = call.in[0], &x = call.in[1], &weights = call.in[2], &places = call.in[3], &dx = call.out[0], &dweights = call.out[1];
    const int64_t k = places.columns(), n = x.columns();
    const auto [begin, end] = team.part(dy.rows());
    for (int64_t t = begin; t < end; ++t) {
        float w[64], dw[64] = {};
        to_f32(address(weights, t), weights.dtype, k, w);
        for (int64_t j = 0; j < k; ++j) {
            const int32_t row = places.as<int32_t>()[t * k + j];
            if (row < 0) continue;
            double dot = 0;
            for (int64_t c = 0; c < n; c += kColumns) {
                alignas(64) float g[kColumns], value[kColumns];
                const int64_t part = std::min(kColumns, n - c);
                to_f32(address(dy, t) + c * float_size(dy.dtype), dy.dtype, part, g);
                to_f32(address(x, row) + c * float_size(x.dtype), x.dtype, part, value);
                float lanes[16] = {};
                for (int64_t i = 0; i < part; ++i) lanes[i % 16] += g[i] * value[i];
                for (const float lane : lanes) dot += static_cast<double>(lane);
                for (int64_t i = 0; i < part; ++i) value[i] = w[j] * g[i];
                from_f32(value, part, dx.dtype, address(dx, row) + c * float_size(dx.dtype));
            }
            dw[j] = static_cast<float>(dot);
        }
        from_f32(dw, k, dweights.dtype, address(dweights, t));
    }
}

const char* declines_combine(const Request& request) {
    for (const Tensor& t : request.in)
        if (t.dtype == DType::i32 && t.columns() > 64) return "more than 64 choices a token";
    return declines(request);
}

constexpr KernelImpl kGrouped[] = {{.name = "packed", .declines = declines_grouped, .prepare = prepare, .rounds = true}},
                     kGroupedGrad[] = {{"packed", declines_grad, prepare_grad}};
constexpr KernelImpl kCombine[] = {{"rows", declines_combine, simd<add_weighted>}},
                     kCombineGrad[] = {{"rows", declines_combine, simd<clear, add_weighted_grad>}};

}  // namespace

const KernelList grouped_matmul{kGrouped}, grouped_matmul_grad{kGroupedGrad}, combine{kCombine}, combine_grad{kCombineGrad};

}  // namespace ds::cpu
