// matmul_sums (ops/matmul_sums.cpp), two ways: cuBLASLt's epilogue adds up the operand as the product reads it, or the product and then the
// kernel of `sum`. trial.h says which.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/trial.h"
#include "ops/attrs_epilogue.h"

namespace ds::cuda {

extern const KernelList sum;

namespace {

struct State {
    Linear fused, product;
    Prepared sum;
    Reduce axes;
    bool of_a = false, fuses = false;
    int64_t between = 0;  // where in scratch the sums lie that are added to others, or what `sum` needs
};

__global__ void add_sums_kernel(Span<const float> sums, Any into, Span<float> y) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < y.n) y.put(i, sums.get(i) + into.get(i));
}

LinearOperands product_operands(const Tensor* in, const Tensor* out) { return {in[0], in[1], {}, in[2], out[0], {}}; }

// The epilogue does not add to what is there: then the sums go to scratch first.
Status run_fused(const State& s, const Tensor* in, const Tensor* out, Queue& q, std::byte* scratch) {
    LinearOperands operands = product_operands(in, out);
    operands.aux = out[1];
    if (in[3].present) operands.aux.data = scratch + s.between;
    DS_CHECK(s.fused.run(q, operands, scratch));
    const int64_t n = out[1].count();
    if (in[3].present)
        launch(q, blocks_for(n, 256), 256, 0, add_sums_kernel, Span<const float>{operands.aux.as<const float>(), n}, any(in[3]),
               span<float>(out[1]));
    return q.failure;
}

Status run_split(const State& s, const Tensor* in, const Tensor* out, Queue& q, std::byte* scratch) {
    DS_CHECK(s.product.run(q, product_operands(in, out), scratch));
    const Tensor operands[] = {in[s.of_a ? 0 : 1], in[3]};
    const Runtime runtime{.queue = &q};
    Call call;
    call.in = operands, call.out = out + 1, call.attrs = &s.axes, call.state = s.sum.state.get(), call.scratch = scratch + s.between,
    call.runtime = &runtime;
    for (const Phase phase : s.sum.phases) phase(call, Team{});
    return q.failure;
}

void run(const Call& c, Queue& q) {
    auto& s = *static_cast<State*>(c.state);
    if (s.fuses) {
        Status status = run_fused(s, c.in, c.out, q, c.scratch);
        if (status.code() != Code::E_UNSUPPORTED) return q.note(std::move(status));
        s.fuses = false;  // this shape has no algorithm
    }
    q.note(run_split(s, c.in, c.out, q, c.scratch));
}

Result<Prepared> prepare(const Request& r) {
    Queue& q = *static_cast<Queue*>(r.queue);
    const auto& attrs = r.attr<MatmulSums>();
    auto s = std::make_shared<State>();
    s->of_a = attrs.of_a;
    s->axes = {.axes = {(attrs.of_a ? attrs.transpose_a : !attrs.transpose_b) ? 0 : 1}};
    LinearOperands operands = product_operands(r.in.data(), r.out.data());
    DS_TRY(s->product, Linear::prepare(q, operands, attrs.product()));
    operands.aux = r.out[1];
    s->fuses = !Linear::declines_sums(operands) && wanted_way() != Way::split;
    if (s->fuses) {
        DS_TRY(s->fused, Linear::prepare(q, operands, attrs.product(), attrs.of_a ? Epilogue::sums_of_a : Epilogue::sums_of_b));
    }
    const Tensor summed[] = {r.in[attrs.of_a ? 0 : 1], r.in[3]};
    DS_TRY(s->sum, sum.begin()->prepare(Request{summed, r.out.subspan(1, 1), &s->axes, r.threads, r.queue}));
    s->between = round_up(std::max(s->fused.scratch_bytes(), s->product.scratch_bytes()), 256);
    const int64_t bytes = s->between + std::max(s->sum.scratch_bytes, r.out[1].count() * 4);
    if (s->fuses && wanted_way() == Way::timed) {
        DS_TRY(s->fuses, first_way_is_faster(
                             q, r, {2, attrs.transpose_a, attrs.transpose_b, attrs.of_a}, bytes,
                             [&](const Tensor* in, const Tensor* out, std::byte* scratch) { return run_fused(*s, in, out, q, scratch); },
                             [&](const Tensor* in, const Tensor* out, std::byte* scratch) { return run_split(*s, in, out, q, scratch); }));
    }
    return Prepared{{queued<run>}, std::move(s), bytes};
}

const char* declines(const Request& r) {
    for (const Tensor* t : {&r.in[0], &r.in[1], &r.out[0]})
        if (!is_number(t->dtype)) return "an operand is neither f32, bf16 nor f16";
    if ((r.attr<MatmulSums>().transpose_a ? r.in[0].rows() : r.in[0].columns()) == 0) return "nothing to add up";
    return nullptr;
}

constexpr KernelImpl kSums[] = {{"cublaslt", declines, prepare}};

}  // namespace

extern const KernelList matmul_sums{kSums};

}  // namespace ds::cuda
