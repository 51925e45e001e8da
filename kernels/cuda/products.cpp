#include "kernels/cuda/products.h"

#include <algorithm>

#ifndef DS_CUDA_EMULATED
#include <dlfcn.h>
#endif

namespace ds::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper

#define DS_LT_FUNCTIONS(X)                  \
    X(cublasLtCreate)                       \
    X(cublasLtDestroy)                      \
    X(cublasLtGetVersion)                   \
    X(cublasLtGetStatusString)              \
    X(cublasLtMatmulDescCreate)             \
    X(cublasLtMatmulDescDestroy)            \
    X(cublasLtMatmulDescSetAttribute)       \
    X(cublasLtMatrixLayoutCreate)           \
    X(cublasLtMatrixLayoutDestroy)          \
    X(cublasLtMatrixLayoutSetAttribute)     \
    X(cublasLtMatmulPreferenceCreate)       \
    X(cublasLtMatmulPreferenceDestroy)      \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic)       \
    X(cublasLtMatmul)

struct Library {
#define X(name) decltype(&::name) name = nullptr;
    DS_LT_FUNCTIONS(X)
#undef X

    Status load() {
#ifdef DS_CUDA_EMULATED
#define X(name) name = &::name;
        DS_LT_FUNCTIONS(X)
#undef X
#else
        constexpr const char* file = "libcublasLt.so.13";
        void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            return fail(Code::E_UNSUPPORTED,
                        "cuda: {} cannot be loaded: {}; install CUDA 13's cuBLAS, or add its folder to LD_LIBRARY_PATH", file, dlerror());
#define X(name)                                                     \
    name = reinterpret_cast<decltype(name)>(dlsym(library, #name)); \
    if (!name) return fail(Code::E_UNSUPPORTED, "cuda: {} has no {}", file, #name);
        DS_LT_FUNCTIONS(X)
#undef X
#endif
        return ok();
    }
    Status answer(cublasStatus_t status, const char* doing) const {
        if (status == CUBLAS_STATUS_SUCCESS) return ok();
        return fail(status == CUBLAS_STATUS_ALLOC_FAILED ? Code::E_OUT_OF_MEMORY : Code::E_DEVICE, "cuda: cuBLASLt: {}: {}", doing,
                    cublasLtGetStatusString(status));
    }
};

cudaDataType_t type_of(DType type) {
    switch (type) {
    case DType::f32: return CUDA_R_32F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f8e4m3: return CUDA_R_8F_E4M3;
    case DType::f8e5m2: return CUDA_R_8F_E5M2;
    default: return CUDA_R_16F;
    }
}
bool is_f8(DType type) { return type == DType::f8e4m3 || type == DType::f8e5m2; }

// The largest power of two up to 256 that divides an address.
uint32_t alignment_of(const void* p) {
    const auto bits = reinterpret_cast<uintptr_t>(p) | 256;
    return static_cast<uint32_t>(bits & (~bits + 1));
}

class LtProducts;

class LtProduct final : public Products::Product {
public:
    LtProduct(const LtProducts& owner, const ProductShape& shape) : owner_(owner), shape_(shape) {}
    ~LtProduct() override;
    Status make();
    Status run(Queue& queue, const void* a, const void* b, float beta, const void* c, void* d, const void* bias, void* aux,
               const float* scale_a, const float* scale_b) override;

private:
    Status describe_sums();
    Status describe_operands();
    Status layout(cublasLtMatrixLayout_t& out, const Operand& operand) const;
    Status choose();
    template <class V>
    Status set(cublasLtMatmulDescAttributes_t attribute, const V& value) const;

    const LtProducts& owner_;
    const ProductShape shape_;
    cublasLtMatmulDesc_t desc_ = nullptr;
    cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr, d_ = nullptr;
    cublasLtMatmulHeuristicResult_t chosen_{};
    uint32_t alignment_[4] = {};  // that it was chosen for; 0: not yet
};

class LtProducts final : public Products {
public:
    ~LtProducts() override {
        if (workspace) cudaFree(workspace);
        if (handle) lt.cublasLtDestroy(handle);
    }
    Status open() {
        DS_CHECK(lt.load());
        return lt.answer(lt.cublasLtCreate(&handle), "opening");
    }
    Status make_workspace() override {
        if (cudaMalloc(&workspace, kWorkspace) == cudaSuccess) return ok();
        workspace = nullptr;
        cudaGetLastError();
        return fail(Code::E_OUT_OF_MEMORY, "cuda: {} bytes of workspace for matrix products could not be allocated", kWorkspace);
    }
    size_t version() const override { return lt.cublasLtGetVersion(); }
    Result<std::shared_ptr<Product>> prepare(const ProductShape& shape) override {
        auto product = std::make_shared<LtProduct>(*this, shape);
        DS_CHECK(product->make());
        return std::shared_ptr<Product>(std::move(product));
    }

    Library lt;
    cublasLtHandle_t handle = nullptr;
    void* workspace = nullptr;
};

LtProduct::~LtProduct() {
    const Library& lt = owner_.lt;
    for (cublasLtMatrixLayout_t layout : {a_, b_, c_, d_})
        if (layout) lt.cublasLtMatrixLayoutDestroy(layout);
    if (desc_) lt.cublasLtMatmulDescDestroy(desc_);
}

// cuBLASLt is column-major: a row-major matrix is its transpose there.
Status LtProduct::layout(cublasLtMatrixLayout_t& out, const Operand& m) const {
    const Library& lt = owner_.lt;
    DS_CHECK(lt.answer(
        lt.cublasLtMatrixLayoutCreate(&out, type_of(m.type), static_cast<uint64_t>(m.columns), static_cast<uint64_t>(m.rows), m.stride),
        "describing an operand"));
    if (shape_.batch == 1) return ok();
    const auto batch = static_cast<int32_t>(shape_.batch);
    DS_CHECK(lt.answer(lt.cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch),
                       "describing an operand"));
    return lt.answer(
        lt.cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.batch_stride, sizeof m.batch_stride),
        "describing an operand");
}

template <class V>
Status LtProduct::set(cublasLtMatmulDescAttributes_t attribute, const V& value) const {
    return owner_.lt.answer(owner_.lt.cublasLtMatmulDescSetAttribute(desc_, attribute, &value, sizeof value), "describing a product");
}

// d = op(a) op(b) row-major is d^T = op(b)^T op(a)^T column-major, so b is its first operand, and d's columns are its rows, along which a
// bias lies.
Status LtProduct::make() {
    const Library& lt = owner_.lt;
    DS_CHECK(lt.answer(lt.cublasLtMatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product"));
    const cublasOperation_t first = shape_.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = shape_.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    DS_CHECK(set(CUBLASLT_MATMUL_DESC_TRANSA, first));
    DS_CHECK(set(CUBLASLT_MATMUL_DESC_TRANSB, second));
    // b is its first operand.
    const cublasLtEpilogue_t epilogue = shape_.epilogue == Epilogue::sums_of_b   ? CUBLASLT_EPILOGUE_BGRADA
                                        : shape_.epilogue == Epilogue::sums_of_a ? CUBLASLT_EPILOGUE_BGRADB
                                        : shape_.epilogue == Epilogue::gelu_grad ? CUBLASLT_EPILOGUE_DGELU
                                        : shape_.epilogue == Epilogue::gelu
                                            ? shape_.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX
                                        : shape_.bias ? CUBLASLT_EPILOGUE_BIAS
                                                      : CUBLASLT_EPILOGUE_DEFAULT;
    if (epilogue != CUBLASLT_EPILOGUE_DEFAULT) DS_CHECK(set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue));
    if (shape_.bias) DS_CHECK(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, is_f8(shape_.a.type) ? CUDA_R_16BF : type_of(shape_.d.type)));
    if (const int8_t fast = shape_.fast_sums; is_f8(shape_.a.type)) DS_CHECK(set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast));
    if (sums(shape_.epilogue)) return describe_sums();
    if (shape_.epilogue != Epilogue::none) DS_CHECK(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, shape_.d.stride));
    return describe_operands();
}

// An algorithm can have it that sums must lie somewhere: the address is there from the beginning, and another for each run.
Status LtProduct::describe_sums() {
    const void* somewhere = owner_.workspace;
    DS_CHECK(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F));
    DS_CHECK(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, somewhere));
    return describe_operands();
}

Status LtProduct::describe_operands() {
    DS_CHECK(layout(a_, shape_.a));
    DS_CHECK(layout(b_, shape_.b));
    DS_CHECK(layout(c_, shape_.c));
    return layout(d_, shape_.d);
}

Status LtProduct::choose() {
    const Library& lt = owner_.lt;
    cublasLtMatmulPreference_t preference = nullptr;
    DS_CHECK(lt.answer(lt.cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm"));
    Status status;
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
        if (status.ok())
            status =
                lt.answer(lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "choosing an algorithm");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_[0]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_[1]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_[2]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_[3]);
    int found = 0;
    if (status.ok()) {
        const cublasStatus_t answer =
            lt.cublasLtMatmulAlgoGetHeuristic(owner_.handle, desc_, b_, a_, c_, d_, preference, 1, &chosen_, &found);
        const bool refused = answer == CUBLAS_STATUS_INVALID_VALUE &&
                             shape_.epilogue != Epilogue::none;  // so it says of epilogues that it lacks for these types
        if (answer == CUBLAS_STATUS_NOT_SUPPORTED || refused) found = 0;
        else status = lt.answer(answer, "choosing an algorithm");
    }
    if (status.ok() && found == 0)
        status = fail(Code::E_UNSUPPORTED, "cuda: cuBLASLt has no algorithm for a product [{}, {}] x [{}, {}]", shape_.a.rows,
                      shape_.a.columns, shape_.b.rows, shape_.b.columns);
    lt.cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

Status LtProduct::run(Queue& queue, const void* a, const void* b, float beta, const void* c, void* d, const void* bias, void* aux,
                      const float* scale_a, const float* scale_b) {
    if (queue.failed()) return ok();  // what it would read may be missing
    const Library& lt = owner_.lt;
    if (shape_.epilogue != Epilogue::none)
        DS_CHECK(set(sums(shape_.epilogue) ? CUBLASLT_MATMUL_DESC_BIAS_POINTER : CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux));
    if (scale_a) {
        DS_CHECK(set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scale_b));
        DS_CHECK(set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scale_a));
    }
    const uint32_t alignment[4] = {alignment_of(b), alignment_of(a), alignment_of(c), alignment_of(d)};
    if (!std::equal(alignment, alignment + 4, alignment_)) {
        std::copy_n(alignment, 4, alignment_);
        if (Status status = choose(); !status.ok()) {
            alignment_[0] = 0;
            return status;
        }
    }
    if (shape_.bias) DS_CHECK(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    const float alpha = 1;
    return lt.answer(lt.cublasLtMatmul(owner_.handle, desc_, &alpha, b, b_, a, a_, &beta, c, c_, d, d_, &chosen_.algo, owner_.workspace,
                                       kWorkspace, queue.stream),
                     "queueing a product");
}

}  // namespace

Result<std::unique_ptr<Products>> Products::open() {
    auto products = std::make_unique<LtProducts>();
    DS_CHECK(products->open());
    return std::unique_ptr<Products>(std::move(products));
}

}  // namespace ds::cuda
