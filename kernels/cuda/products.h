// Matrix products by cuBLASLt, which is loaded when the first device is opened: it is large, and hosts without a GPU have none.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "kernels/cuda/queue.h"
#include "kernels/kernel.h"

namespace ds::cuda {

struct Operand {  // row-major
    DType type = DType::f32;
    int64_t rows = 0, columns = 0, stride = 0;
    int64_t batch_stride = 0;  // elements
};

// What is done to sums before they are written. gelu (tanh approximation): the sums go to aux. gelu_grad: they are multiplied with gelu's
// slope at aux. sums_of_a, sums_of_b: the operand's sums over what the product contracts go to aux, in f32.
enum class Epilogue { none, gelu, gelu_grad, sums_of_a, sums_of_b };
inline bool sums(Epilogue e) { return e == Epilogue::sums_of_a || e == Epilogue::sums_of_b; }

// 8-bit floats: both operands lie along what is contracted (b transposed, a not), a multiple of 16; a bias is bf16; run gets what they are
// multiplied with.
//
// d = op(a) op(b) + beta c (+ bias over d's columns, of d's type). a and b have one type; f32 ones give f32, others f32 or their own; c has
// d's. aux lies as d does, or is a vector of sums.
struct ProductShape {
    Operand a, b, c, d;
    bool transpose_a = false, transpose_b = false, bias = false;
    int64_t batch = 1;
    Epilogue epilogue = Epilogue::none;
    bool fast_sums = false;  // of 8-bit floats: in fewer bits than f32 along the way
};

class Products {
public:
    static Result<std::unique_ptr<Products>> open();
    virtual ~Products() = default;
    virtual size_t version() const = 0;
    virtual Status make_workspace() = 0;

    // One shape's descriptors and the algorithm that was chosen for it.
    class Product {
    public:
        virtual ~Product() = default;
        // Queues it. scale_a, scale_b: what 8-bit operands are multiplied with, in device memory at multiples of 16 bytes. Which algorithm
        // serves may depend on the addresses' alignment; it is chosen again when that changes. E_UNSUPPORTED: there is none.
        virtual Status run(Queue& queue, const void* a, const void* b, float beta, const void* c, void* d, const void* bias,
                           void* aux = nullptr, const float* scale_a = nullptr, const float* scale_b = nullptr) = 0;
    };
    std::map<std::vector<int64_t>, bool> winners;  // of what was timed: whether the first way is faster
    virtual Result<std::shared_ptr<Product>> prepare(const ProductShape& shape) = 0;
};

}  // namespace ds::cuda
