// One product of cuBLASLt with the operands as an op has them: what it does not take as it is gets converted on the way.
#pragma once

#include "kernels/cuda/products.h"
#include "ops/attrs.h"

namespace ds::cuda {

struct LinearOperands {
    Tensor a, b, bias, into, y;
    Tensor aux;  // of an epilogue: the sums before it, or what its slope is taken of, of y's shape; or an operand's sums
};

class Linear {
public:
    static Result<Linear> prepare(Queue& queue, const LinearOperands& operands, const Matmul& attrs, Epilogue epilogue = Epilogue::none);
    // Why cuBLASLt's epilogues can't have these operands; null: they can.
    static const char* declines_epilogue(const LinearOperands& operands);
    static const char* declines_sums(const LinearOperands& operands);
    int64_t scratch_bytes() const { return scratch_; }
    // E_UNSUPPORTED: there is no algorithm.
    Status run(Queue& queue, const LinearOperands& operands, std::byte* scratch) const;

private:
    // An operand as the product takes it: itself, or a dense copy of another type in scratch.
    struct Taken {
        DType type = DType::f32;
        int64_t scratch = -1;  // offset; -1: as it is
        Tensor of(const Tensor& t, std::byte* scratch) const;
    };

    std::shared_ptr<Products::Product> product_;  // null: nothing to do
    Taken a_, b_, bias_, y_;
    bool adds_in_place_ = false;  // into is first brought to where the result goes
    int64_t scratch_ = 0;
};

}  // namespace ds::cuda
