// matmul: y = op(a) @ op(b) (+ bias) (+ into), also in batches. gemm.h does the work; here operands become its shapes.
#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/matvec.h"
#include "ops/attrs.h"

namespace ds::cpu {
namespace {

struct State {
    Gemm gemm;
    int64_t batch = 1;
    int64_t a_step = 0, b_step = 0, c_step = 0, into_step = 0;  // bytes from one product of the batch to the next
    int64_t scratch = 0;                                        // of a thread
};

int64_t step_of(const Tensor& t) { return t.dims[t.rank - 2] * t.row_stride * float_size(t.dtype); }

State state_of(const Request& request) {
    const Tensor &a = request.in[0], &b = request.in[1], &bias = request.in[2], &into = request.in[3], &y = request.out[0];
    const auto& attrs = request.attr<Matmul>();
    GemmShape g;
    g.transpose_a = attrs.transpose_a, g.transpose_b = attrs.transpose_b;
    g.k = attrs.transpose_a ? a.dims[a.rank - 2] : a.columns();
    g.m = y.dims[y.rank - 2], g.n = y.columns();
    g.a_type = a.dtype, g.b_type = b.dtype, g.c_type = y.dtype;
    g.round_b = b.rounded != DType::f32;
    g.lda = a.row_stride, g.ldb = b.row_stride, g.ldc = y.row_stride;
    if (bias.present) g.bias_type = bias.dtype;
    if (into.present) g.into_type = into.dtype, g.ld_into = into.row_stride;

    State s;
    if (b.rank == 2) {
        g.m = attrs.transpose_a ? g.m : y.rows();  // one b for every a: a single product of more rows
    } else {
        for (int i = 0; i + 2 < y.rank; ++i) s.batch *= y.dims[i];
        s.a_step = step_of(a), s.b_step = step_of(b), s.c_step = step_of(y);
        if (into.present) s.into_step = step_of(into);
    }
    s.gemm = Gemm(g);
    return s;
}

void* offset(void* p, int64_t bytes) { return p ? static_cast<std::byte*>(p) + bytes : nullptr; }

void multiply(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    std::byte* scratch = call.scratch + team.rank * s.scratch;
    // Many products are dealt out whole; of few, each is shared.
    const bool whole = s.batch >= 4 * int64_t{team.size};
    const auto [begin, end] = whole ? team.part(s.batch) : Team::Range{0, s.batch};
    for (int64_t i = begin; i < end; ++i) {
        const GemmArgs args{offset(call.in[0].data, i * s.a_step), offset(call.in[1].data, i * s.b_step),
                            offset(call.out[0].data, i * s.c_step), call.in[2].present ? call.in[2].data : nullptr,
                            call.in[3].present ? offset(call.in[3].data, i * s.into_step) : nullptr};
        s.gemm.run(args, whole ? Team{} : team, scratch);
    }
}

const char* declines(const Request& request) {
    for (const Tensor& t : request.in)
        if (t.present && !is_simd_float(t.dtype)) return "an input is not f32, bf16 or f16";
    if (!is_simd_float(request.out[0].dtype)) return "the output is not f32, bf16 or f16";
    return declines_rounding(request.in[0], request.in[1]);
}

Result<Prepared> prepare(const Request& request) {
    auto state = std::make_shared<State>(state_of(request));
    state->scratch = state->gemm.scratch_bytes(state->batch >= 4 * int64_t{request.threads} ? 1 : request.threads);
    const int64_t scratch = state->scratch * request.threads;
    return Prepared{{multiply}, std::move(state), scratch};
}

const char* few_rows_declines(const Request& request) {
    const char* why = declines(request);
    return why ? why : matvec_declines(request);
}

constexpr KernelImpl kMatmul[] = {{"few_rows", few_rows_declines, prepare_matvec},
                                  {.name = "packed", .declines = declines, .prepare = prepare, .rounds = true}};

}  // namespace

const KernelList matmul{kMatmul};

}  // namespace ds::cpu
