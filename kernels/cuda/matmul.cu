// y = op(a) @ op(b) (+ bias) (+ into) by cuBLASLt. It takes operands of one type, and gives f32 or that type; whatever else comes is converted on the way.
#include "kernels/cuda/products.h"
#include "kernels/cuda/walk.cuh"
#include "ops/attrs.h"

namespace ds::cuda {
namespace {

void convert(Queue& q, const Tensor& y, const Tensor& x) { convert(q, walk(y, {&x}), y, x); }

// An operand as the product takes it: itself, or a dense copy of another type in scratch.
struct Taken {
    DType type = DType::f32;
    int64_t scratch = -1;  // offset; -1: as it is

    Tensor of(const Tensor& t, const Call& c) const {
        if (scratch < 0) return t;
        Tensor copy = t;
        copy.dtype = type;
        copy.row_stride = t.columns();
        copy.data = c.scratch + scratch;
        return copy;
    }
};

struct Plan {
    std::shared_ptr<Products::Product> product;
    Taken a, b, bias, y;
    bool adds_in_place = false;  // into is first brought to where the result goes
    bool empty = false, no_depth = false;
};

Operand operand(const Tensor& t, DType type, bool copied, int64_t batch) {
    const int64_t rows = t.rank < 2 ? 1 : t.dims[t.rank - 2], stride = copied ? t.columns() : t.row_stride;
    return {type, rows, t.columns(), std::max<int64_t>(stride, 1), t.rank == 2 || batch == 1 ? 0 : rows * stride};
}

void run(const Call& c, Queue& q) {
    const auto& plan = *static_cast<const Plan*>(c.state);
    const Tensor &bias = c.in[2], &into = c.in[3], &y = c.out[0];
    if (plan.empty) return;
    const Tensor a = plan.a.of(c.in[0], c), b = plan.b.of(c.in[1], c), d = plan.y.of(y, c);
    if (plan.a.scratch >= 0) convert(q, a, c.in[0]);
    if (plan.b.scratch >= 0) convert(q, b, c.in[1]);
    Tensor low_bias = bias;
    if (plan.bias.scratch >= 0) convert(q, low_bias = plan.bias.of(bias, c), bias);
    const void* from = d.data;
    if (into.present && plan.adds_in_place && into.data != d.data) convert(q, d, into);
    if (into.present && !plan.adds_in_place) from = into.data;
    q.note(plan.product->run(q, a.data, b.data, into.present ? 1.0f : 0.0f, from, d.data, bias.present ? low_bias.data : nullptr));
    if (plan.y.scratch >= 0) convert(q, y, d);
}

DType wider(DType a, DType b) { return a == b ? a : DType::f32; }

Result<Prepared> prepare(const Request& r) {
    const Tensor &a = r.in[0], &b = r.in[1], &bias = r.in[2], &into = r.in[3], &y = r.out[0];
    const auto& attrs = r.attr<Matmul>();
    auto plan = std::make_shared<Plan>();
    int64_t room = 0;
    const auto take = [&](Taken& taken, const Tensor& t, DType type) {
        taken.type = type;
        if (t.dtype == type) return;
        taken.scratch = room;
        room += (t.count() * size_of(type) + 255) / 256 * 256;
    };
    const DType in = wider(a.dtype, b.dtype), out = in == DType::f32 ? DType::f32 : y.dtype == in ? in : DType::f32;
    take(plan->a, a, in);
    take(plan->b, b, in);
    take(plan->y, y, out);
    if (bias.present) take(plan->bias, bias, out);
    int64_t batch = 1;
    for (int i = 0; i + 2 < y.rank; ++i) batch *= y.dims[i];
    plan->empty = y.count() == 0;
    plan->adds_in_place = into.present && (into.dtype != out || plan->y.scratch >= 0);
    if (plan->empty) return Prepared{{queued<run>}, plan, room};
    ProductShape shape{operand(a, in, plan->a.scratch >= 0, batch), operand(b, in, plan->b.scratch >= 0, batch), {}, operand(y, out, plan->y.scratch >= 0, batch),
                       attrs.transpose_a, attrs.transpose_b, bias.present, batch};
    shape.c = into.present && !plan->adds_in_place ? operand(into, out, false, batch) : shape.d;
    if (b.rank == 2 && batch > 1 && !attrs.transpose_a) {  // one product of all rows
        for (Operand* o : {&shape.a, &shape.c, &shape.d}) o->rows *= batch;
        shape.batch = 1;
    }
    DS_TRY(plan->product, static_cast<Queue*>(r.queue)->products->prepare(shape));
    return Prepared{{queued<run>}, plan, room};
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
