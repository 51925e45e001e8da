// y = op(a) @ op(b) (+ bias) (+ into) by cuBLASLt. It takes operands of one type, and gives f32 or that type; whatever else comes is
// converted on the way.
#include "kernels/cuda/linear.h"
#include "kernels/cuda/walk.cuh"

namespace ds::cuda {
namespace {

void convert(Queue& q, const Tensor& y, const Tensor& x) { convert(q, walk(y, {&x}), y, x); }

Operand operand(const Tensor& t, DType type, bool copied, int64_t batch) {
    const int64_t rows = t.rank < 2 ? 1 : t.dims[t.rank - 2], stride = copied ? t.columns() : t.row_stride;
    return {type, rows, t.columns(), std::max<int64_t>(stride, 1), t.rank == 2 || batch == 1 ? 0 : rows * stride};
}

DType wider(DType a, DType b) { return a == b ? a : DType::f32; }

}  // namespace

Tensor Linear::Taken::of(const Tensor& t, std::byte* memory) const {
    if (scratch < 0) return t;
    Tensor copy = t;
    copy.dtype = type;
    copy.row_stride = t.columns();
    copy.data = memory + scratch;
    return copy;
}

Status Linear::run(Queue& q, const LinearOperands& o, std::byte* scratch) const {
    if (!product_) return ok();
    const Tensor a = a_.of(o.a, scratch), b = b_.of(o.b, scratch), d = y_.of(o.y, scratch);
    if (a_.scratch >= 0) convert(q, a, o.a);
    if (b_.scratch >= 0) convert(q, b, o.b);
    Tensor bias = o.bias;
    if (bias_.scratch >= 0) convert(q, bias = bias_.of(o.bias, scratch), o.bias);
    const void* from = d.data;
    if (o.into.present && adds_in_place_ && o.into.data != d.data) convert(q, d, o.into);
    if (o.into.present && !adds_in_place_) from = o.into.data;
    DS_CHECK(product_->run(q, a.data, b.data, o.into.present ? 1.0f : 0.0f, from, d.data, bias.present ? bias.data : nullptr,
                           o.aux.present ? o.aux.data : nullptr));
    if (y_.scratch >= 0) convert(q, o.y, d);
    return ok();
}

Result<Linear> Linear::prepare(Queue& queue, const LinearOperands& o, const Matmul& attrs, Epilogue epilogue) {
    const Tensor &a = o.a, &b = o.b, &bias = o.bias, &into = o.into, &y = o.y;
    Linear linear;
    const auto take = [&](Taken& taken, const Tensor& t, DType type) {
        taken.type = type;
        if (t.dtype == type) return;
        taken.scratch = linear.scratch_;
        linear.scratch_ += round_up(t.count() * size_of(type), 256);
    };
    const DType in = wider(a.dtype, b.dtype), out = in == DType::f32 ? DType::f32 : y.dtype == in ? in : DType::f32;
    take(linear.a_, a, in);
    take(linear.b_, b, in);
    take(linear.y_, y, out);
    if (bias.present) take(linear.bias_, bias, out);
    int64_t batch = 1;
    for (int i = 0; i + 2 < y.rank; ++i) batch *= y.dims[i];
    linear.adds_in_place_ = into.present && (into.dtype != out || linear.y_.scratch >= 0);
    if (y.count() == 0) return linear;
    ProductShape shape{operand(a, in, linear.a_.scratch >= 0, batch),
                       operand(b, in, linear.b_.scratch >= 0, batch),
                       {},
                       operand(y, out, linear.y_.scratch >= 0, batch),
                       attrs.transpose_a,
                       attrs.transpose_b,
                       bias.present,
                       batch,
                       epilogue};
    shape.c = into.present && !linear.adds_in_place_ ? operand(into, out, false, batch) : shape.d;
    if (b.rank == 2 && batch > 1 && !attrs.transpose_a) {  // one product of all rows
        for (Operand* each : {&shape.a, &shape.c, &shape.d}) each->rows *= batch;
        shape.batch = 1;
    }
    DS_TRY(linear.product_, queue.products->prepare(shape));
    return linear;
}

const char* Linear::declines_epilogue(const LinearOperands& o) {
    const DType type = o.y.dtype;
    if (o.b.rank != 2) return "a product in batches";
    if (type != DType::bf16 && type != DType::f16) return "the result is neither bf16 nor f16";
    if (o.a.dtype != type || o.b.dtype != type || o.aux.dtype != type) return "operands have several types";
    if (o.y.columns() % 8 != 0 || !o.y.dense() || !o.aux.dense()) return "rows are no multiples of 8 elements";
    return nullptr;
}

const char* Linear::declines_sums(const LinearOperands& o) {
    if (o.a.dtype != o.b.dtype || (o.a.dtype != DType::bf16 && o.a.dtype != DType::f16))
        return "the operands are neither both bf16 nor both f16";
    if (o.y.dtype != DType::f32) return "the result is not f32, as the sums are";
    if (o.a.count() == 0 || o.y.count() == 0) return "nothing to add up";
    return nullptr;
}

namespace {

LinearOperands operands(std::span<const Tensor> in, const Tensor& y) { return {in[0], in[1], in[2], in[3], y, {}}; }

void run(const Call& c, Queue& q) { q.note(static_cast<const Linear*>(c.state)->run(q, operands({c.in, 4}, c.out[0]), c.scratch)); }

Result<Prepared> prepare(const Request& r) {
    DS_TRY(Linear linear, Linear::prepare(*static_cast<Queue*>(r.queue), operands(r.in, r.out[0]), r.attr<Matmul>()));
    const int64_t bytes = linear.scratch_bytes();
    return Prepared{{queued<run>}, std::make_shared<Linear>(std::move(linear)), bytes};
}

const char* declines(const Request& r) {
    for (const Tensor* t : {&r.in[0], &r.in[1], &r.out[0]})
        if (!is_number(t->dtype)) return "an operand is neither f32, bf16 nor f16";
    const auto& attrs = r.attr<Matmul>();
    const Tensor& a = r.in[0];
    if ((attrs.transpose_a ? a.dims[a.rank - 2] : a.columns()) == 0) return "nothing to add up";
    return nullptr;
}

constexpr KernelImpl kMatmul[] = {{"cublaslt", declines, prepare}};

}  // namespace

extern const KernelList matmul{kMatmul};

}  // namespace ds::cuda
