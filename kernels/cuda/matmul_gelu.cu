// matmul_gelu and matmul_gelu_grad (ops/matmul_gelu.cpp), two ways: cuBLASLt's epilogues, or the product and then an elementwise kernel.
// trial.h says which.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/trial.h"

namespace ds::cuda {

extern const KernelList gelu, gelu_grad;

namespace {

constexpr Gelu kTanh{.tanh = true};

struct State {
    Linear fused, product;
    Prepared activation;
    bool backward = false, fuses = false;
    int64_t between = 0;  // where in scratch the product lies that a gradient multiplies
};

// in: a, b, and a bias or x. out: y and the sums before it, or dx.
LinearOperands fused_operands(const Tensor* in, const Tensor* out, bool backward) {
    if (backward) return {in[0], in[1], {}, {}, out[0], in[2]};
    return {in[0], in[1], in[2], {}, out[0], out[1]};
}
LinearOperands split_operands(const Tensor* in, const Tensor* out, bool backward, std::byte* between) {
    if (!backward) return {in[0], in[1], in[2], {}, out[1], {}};
    Tensor dy = out[0];
    dy.data = between;
    return {in[0], in[1], {}, {}, dy, {}};
}

Status run_split(const State& s, const Tensor* in, const Tensor* out, Queue& q, std::byte* scratch) {
    const LinearOperands product = split_operands(in, out, s.backward, scratch + s.between);
    DS_CHECK(s.product.run(q, product, scratch));
    const Tensor operands[] = {product.y, s.backward ? in[2] : Tensor{}};
    const Runtime runtime{.queue = &q};
    Call call;
    call.in = operands, call.out = out, call.attrs = &kTanh, call.scratch = scratch, call.runtime = &runtime;
    for (const Phase phase : s.activation.phases) phase(call, Team{});
    return q.failure;
}

void run(const Call& c, Queue& q) {
    auto& s = *static_cast<State*>(c.state);
    if (s.fuses) {
        Status status = s.fused.run(q, fused_operands(c.in, c.out, s.backward), c.scratch);
        if (status.code() != Code::E_UNSUPPORTED) return q.note(std::move(status));
        s.fuses = false;  // this shape has no algorithm
    }
    q.note(run_split(s, c.in, c.out, q, c.scratch));
}

Result<bool> fused_is_faster(const State& s, const Request& r, Queue& q, int64_t scratch_bytes) {
    const auto& attrs = r.attr<Matmul>();
    return first_way_is_faster(
        q, r, {s.backward, attrs.transpose_a, attrs.transpose_b}, scratch_bytes,
        [&](const Tensor* in, const Tensor* out, std::byte* scratch) {
            return s.fused.run(q, fused_operands(in, out, s.backward), scratch);
        },
        [&](const Tensor* in, const Tensor* out, std::byte* scratch) { return run_split(s, in, out, q, scratch); });
}

Result<Prepared> prepare(const Request& r, bool backward) {
    Queue& q = *static_cast<Queue*>(r.queue);
    const auto& attrs = r.attr<Matmul>();
    auto s = std::make_shared<State>();
    s->backward = backward;
    const LinearOperands fused = fused_operands(r.in.data(), r.out.data(), backward),
                         product = split_operands(r.in.data(), r.out.data(), backward, nullptr);
    s->fuses = !Linear::declines_epilogue(fused) && wanted_way() != Way::split;
    if (s->fuses) { DS_TRY(s->fused, Linear::prepare(q, fused, attrs, backward ? Epilogue::gelu_grad : Epilogue::gelu)); }
    DS_TRY(s->product, Linear::prepare(q, product, attrs));
    const Tensor operands[] = {product.y, backward ? r.in[2] : Tensor{}};
    const KernelImpl& kernel = *(backward ? gelu_grad : gelu).begin();
    DS_TRY(s->activation, kernel.prepare(Request{operands, r.out.subspan(0, 1), &kTanh, r.threads, r.queue}));
    s->between = round_up(std::max(s->fused.scratch_bytes(), s->product.scratch_bytes()), 256);
    const int64_t bytes = s->between + (backward ? r.out[0].count() * size_of(r.out[0].dtype) : 0);
    if (s->fuses && wanted_way() == Way::timed) { DS_TRY(s->fuses, fused_is_faster(*s, r, q, bytes)); }
    return Prepared{{queued<run>}, std::move(s), bytes};
}
Result<Prepared> prepare_forward(const Request& r) { return prepare(r, false); }
Result<Prepared> prepare_backward(const Request& r) { return prepare(r, true); }

const char* declines(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && !is_number(t.dtype)) return "an operand is neither f32, bf16 nor f16";
    const Tensor& a = r.in[0];
    if ((r.attr<Matmul>().transpose_a ? a.dims[a.rank - 2] : a.columns()) == 0) return "nothing to add up";
    return nullptr;
}

constexpr KernelImpl kForward[] = {{"cublaslt", declines, prepare_forward}}, kBackward[] = {{"cublaslt", declines, prepare_backward}};

}  // namespace

extern const KernelList matmul_gelu{kForward}, matmul_gelu_grad{kBackward};

}  // namespace ds::cuda
