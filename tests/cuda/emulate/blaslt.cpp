// cuBLASLt's matrix product, D = alpha op(A) op(B) + beta C (+ bias over D's rows), and GELU or its slope behind it, column-major, in plain
// loops; with the checks of arguments that the library makes and with bounds checks that it doesn't. Sums are f64: f32 ones, term after
// term, are worse than any library's.
#include <cmath>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/dtype.h"
#include "tests/cuda/emulate/api.h"
#include "tests/cuda/emulate/control.h"
#include "tests/cuda/emulate/memory.h"
#include "tests/cuda/emulate/stream.h"

struct EmuLt {};
struct EmuMatmulDesc {
    cublasOperation_t transpose[2] = {CUBLAS_OP_N, CUBLAS_OP_N};
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void* bias = nullptr;
    cudaDataType_t bias_type = CUDA_R_32F;
    bool bias_type_set = false;
    const void* aux = nullptr;
    int64_t aux_stride = 0;
    const float* scale[2] = {};
    int8_t fast = 0;
    bool has_bias() const { return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS; }
    bool has_sums() const { return epilogue == CUBLASLT_EPILOGUE_BGRADA || epilogue == CUBLASLT_EPILOGUE_BGRADB; }
    bool has_aux() const { return epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS && !has_sums(); }
};
struct EmuLayout {
    cudaDataType_t type = CUDA_R_32F;
    uint64_t rows = 0, columns = 0;
    int64_t stride = 0, batch_stride = 0;
    int32_t batch = 1;
};
struct EmuPreference {
    size_t workspace = 0;
    uint32_t alignment[4] = {256, 256, 256, 256};
};

namespace {

using namespace emu;

ds::DType dtype_of(cudaDataType_t type) {
    switch (type) {
    case CUDA_R_32F: return ds::DType::f32;
    case CUDA_R_16F: return ds::DType::f16;
    case CUDA_R_8F_E4M3: return ds::DType::f8e4m3;
    case CUDA_R_8F_E5M2: return ds::DType::f8e5m2;
    default: return ds::DType::bf16;
    }
}
bool is_f8(cudaDataType_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

#define LT_CALL() \
    if (fails(__func__)) return CUBLAS_STATUS_EXECUTION_FAILED

struct Matrix {
    EmuLayout layout;
    const char* seen = nullptr;
    int64_t element() const { return ds::size_of(dtype_of(layout.type)); }

    std::string load(int batch, std::vector<float>& out) const {
        out.resize(layout.rows * layout.columns);
        for (uint64_t c = 0; c < layout.columns; ++c) {
            const char* at = seen + (batch * layout.batch_stride + static_cast<int64_t>(c) * layout.stride) * element();
            if (std::string why = Memory::get().refuses(at, layout.rows * static_cast<uint64_t>(element()), true); !why.empty())
                return "an operand of cublasLtMatmul " + why;
            ds::convert(Memory::get().inside(at), dtype_of(layout.type), out.data() + c * layout.rows, ds::DType::f32,
                        static_cast<int64_t>(layout.rows));
        }
        return {};
    }
};

float tanh_of(float x) { return std::tanh(0.79788456f * (x + 0.044715f * x * x * x)); }
float gelu(float x) { return 0.5f * x * (1 + tanh_of(x)); }
float gelu_slope(float x) {
    const float t = tanh_of(x);
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}

// A column of D's sums meets aux's: they are written there, or it is read. What D gets then.
std::string apply(const EmuMatmulDesc& desc, const EmuLayout& d, uint64_t column, std::vector<float>& sums) {
    const auto type = dtype_of(d.type);
    const uint64_t bytes = d.rows * static_cast<uint64_t>(ds::size_of(type));
    char* at = static_cast<char*>(const_cast<void*>(desc.aux)) + static_cast<int64_t>(column) * desc.aux_stride * ds::size_of(type);
    const bool reads = desc.epilogue == CUBLASLT_EPILOGUE_DGELU;
    if (std::string why = Memory::get().refuses(at, bytes, reads); !why.empty()) return "the aux of cublasLtMatmul " + why;
    if (reads) {
        std::vector<float> x(d.rows);
        ds::convert(Memory::get().inside(at), type, x.data(), ds::DType::f32, static_cast<int64_t>(d.rows));
        for (uint64_t i = 0; i < d.rows; ++i) sums[i] *= gelu_slope(x[i]);
        return {};
    }
    ds::convert(sums.data(), ds::DType::f32, Memory::get().inside(at), type, static_cast<int64_t>(d.rows));
    Memory::get().mark(at, bytes, ByteState::written);
    for (float& x : sums) x = gelu(x);
    return {};
}

// An operand's sums over what the product contracts. lines: of the product, each with a sum; contracted along the columns as they lie, or
// down the rows.
std::string add_up(const EmuMatmulDesc& desc, const Matrix& operand, const std::vector<float>& values, uint64_t lines, bool columns) {
    const auto type = dtype_of(desc.bias_type);
    const uint64_t bytes = lines * static_cast<uint64_t>(ds::size_of(type));
    if (std::string why = Memory::get().refuses(desc.bias, bytes, false); !why.empty()) return "the sums of cublasLtMatmul " + why;
    std::vector<float> sums(lines);
    for (uint64_t i = 0; i < lines; ++i) {
        double sum = 0;
        for (uint64_t l = 0; l < (columns ? operand.layout.columns : operand.layout.rows); ++l)
            sum += values[columns ? l * operand.layout.rows + i : i * operand.layout.rows + l];
        sums[i] = static_cast<float>(sum);
    }
    void* at = const_cast<void*>(desc.bias);
    ds::convert(sums.data(), ds::DType::f32, Memory::get().inside(at), type, static_cast<int64_t>(lines));
    Memory::get().mark(at, bytes, ByteState::written);
    return {};
}

std::string multiply(const EmuMatmulDesc& desc, float alpha, Matrix a, Matrix b, float beta, Matrix c, Matrix d) {
    const auto rows = d.layout.rows, columns = d.layout.columns;
    const bool ta = desc.transpose[0] == CUBLAS_OP_T, tb = desc.transpose[1] == CUBLAS_OP_T;
    const uint64_t depth = ta ? a.layout.rows : a.layout.columns;
    std::vector<float> av, bv, cv, bias(rows, 0.0f), sums(rows);
    std::vector<double> exact(rows);
    if (desc.has_bias()) {
        const auto type = dtype_of(desc.bias_type_set ? desc.bias_type : d.layout.type);
        if (std::string why = Memory::get().refuses(desc.bias, rows * static_cast<uint64_t>(ds::size_of(type)), true); !why.empty())
            return "the bias of cublasLtMatmul " + why;
        ds::convert(Memory::get().inside(desc.bias), type, bias.data(), ds::DType::f32, static_cast<int64_t>(rows));
    }
    for (const float* scale : desc.scale) {
        if (!scale) continue;
        if (std::string why = Memory::get().refuses(scale, sizeof *scale, true); !why.empty()) return "a scale of cublasLtMatmul " + why;
        float by = 0;
        std::memcpy(&by, Memory::get().inside(scale), sizeof by);
        alpha *= by;
    }
    for (int batch = 0; batch < d.layout.batch; ++batch) {
        if (std::string why = a.load(batch, av); !why.empty()) return why;
        if (std::string why = b.load(batch, bv); !why.empty()) return why;
        if (beta != 0)
            if (std::string why = c.load(batch, cv); !why.empty()) return why;
        if (desc.has_sums()) {
            const bool first = desc.epilogue == CUBLASLT_EPILOGUE_BGRADA;
            if (std::string why = first ? add_up(desc, a, av, rows, !ta) : add_up(desc, b, bv, columns, tb); !why.empty()) return why;
        }
        for (uint64_t j = 0; j < columns; ++j) {
            std::fill(exact.begin(), exact.end(), 0.0);
            for (uint64_t l = 0; l < depth; ++l) {
                const double right = tb ? bv[l * b.layout.rows + j] : bv[j * b.layout.rows + l];
                if (ta)
                    for (uint64_t i = 0; i < rows; ++i) exact[i] += av[i * a.layout.rows + l] * right;
                else
                    for (uint64_t i = 0; i < rows; ++i) exact[i] += av[l * a.layout.rows + i] * right;
            }
            for (uint64_t i = 0; i < rows; ++i)
                sums[i] = alpha * static_cast<float>(exact[i]) + (beta != 0 ? beta * cv[j * rows + i] : 0) + bias[i];
            if (desc.has_aux())
                if (std::string why = apply(desc, d.layout, j, sums); !why.empty()) return why;
            char* at =
                const_cast<char*>(d.seen) + (batch * d.layout.batch_stride + static_cast<int64_t>(j) * d.layout.stride) * d.element();
            const uint64_t bytes = rows * static_cast<uint64_t>(d.element());
            if (std::string why = Memory::get().refuses(at, bytes, false); !why.empty()) return "the result of cublasLtMatmul " + why;
            ds::convert(sums.data(), ds::DType::f32, Memory::get().inside(at), dtype_of(d.layout.type), static_cast<int64_t>(rows));
            Memory::get().mark(at, bytes, ByteState::written);
        }
    }
    count_launch();
    return {};
}

// Whether shapes and types fit together, as the library's own checks say.
bool fits(const EmuMatmulDesc& desc, const EmuLayout& a, const EmuLayout& b, const EmuLayout& c, const EmuLayout& d) {
    const bool ta = desc.transpose[0] == CUBLAS_OP_T, tb = desc.transpose[1] == CUBLAS_OP_T;
    const uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns, k2 = tb ? b.columns : b.rows, n = tb ? b.rows : b.columns;
    if (m != d.rows || n != d.columns || k != k2 || c.rows != d.rows || c.columns != d.columns || m == 0 || n == 0 || k == 0) return false;
    for (const EmuLayout* l : {&a, &b, &c, &d})
        if (l->stride < static_cast<int64_t>(l->rows) || l->batch != d.batch) return false;
    if (c.type != d.type) return false;
    if (is_f8(a.type) || is_f8(b.type)) {
        const bool types = is_f8(a.type) && is_f8(b.type) && (a.type == CUDA_R_8F_E4M3 || b.type == CUDA_R_8F_E4M3) && !is_f8(d.type) &&
                           (!desc.has_bias() || (desc.bias_type_set && desc.bias_type == CUDA_R_16BF));
        return types && ta && !tb && m % 16 == 0 && k % 16 == 0 && a.stride % 16 == 0 && b.stride % 16 == 0 && d.batch == 1 &&
               desc.scale[0] && desc.scale[1] && !desc.has_sums() && !desc.has_aux();
    }
    if (a.type != b.type) return false;
    if (desc.has_sums() &&
        (d.batch != 1 || a.type == CUDA_R_32F || !desc.bias_type_set || desc.bias_type != CUDA_R_32F || d.type != CUDA_R_32F || !desc.bias))
        return false;
    if (desc.has_aux() &&
        (d.type == CUDA_R_32F || d.batch != 1 || desc.aux_stride % 8 != 0 || desc.aux_stride < static_cast<int64_t>(d.rows)))
        return false;
    return a.type == CUDA_R_32F ? d.type == CUDA_R_32F : d.type == CUDA_R_32F || d.type == a.type;
}

bool aligned(const void* p, uint64_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    LT_CALL();
    *handle = new EmuLt;
    count_live(1);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    count_live(-1);
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return 130000; }
const char* cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "success" : status == CUBLAS_STATUS_INVALID_VALUE ? "invalid value" : "execution failed";
}

#define LT_MAKE(Type, pointer, ...)   \
    LT_CALL();                        \
    *pointer = new Type{__VA_ARGS__}; \
    count_live(1);                    \
    return CUBLAS_STATUS_SUCCESS
#define LT_DESTROY(object) \
    delete object;         \
    count_live(-1);        \
    return CUBLAS_STATUS_SUCCESS

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t, cudaDataType_t) { LT_MAKE(EmuMatmulDesc, desc); }
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { LT_DESTROY(desc); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
    LT_CALL();
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: std::memcpy(&desc->transpose[0], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: std::memcpy(&desc->transpose[1], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: std::memcpy(&desc->epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: std::memcpy(&desc->bias, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: std::memcpy(&desc->scale[0], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: std::memcpy(&desc->scale[1], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: std::memcpy(&desc->fast, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: std::memcpy(&desc->aux, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: std::memcpy(&desc->aux_stride, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: std::memcpy(&desc->bias_type, value, bytes), desc->bias_type_set = true; break;
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t stride) {
    LT_MAKE(EmuLayout, layout, type, rows, columns, stride);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { LT_DESTROY(layout); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
    LT_CALL();
    if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) std::memcpy(&layout->batch, value, bytes);
    else std::memcpy(&layout->batch_stride, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) { LT_MAKE(EmuPreference, preference); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { LT_DESTROY(preference); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    LT_CALL();
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) std::memcpy(&preference->workspace, value, bytes);
    else std::memcpy(&preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

// An algorithm remembers what it was chosen for: the alignments and the room that it may count on.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
    LT_CALL();
    *found = 0;
    if (wanted < 1 || !fits(*desc, *a, *b, *c, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    results[0] = {};
    results[0].workspaceSize = std::min<size_t>(preference->workspace, 1024);
    for (int i = 0; i < 4; ++i) results[0].algo.data[i] = preference->alignment[i];
    results[0].algo.data[4] = results[0].workspaceSize;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a, cublasLtMatrixLayout_t la,
                              const void* b, cublasLtMatrixLayout_t lb, const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    LT_CALL();
    if (!fits(*desc, *la, *lb, *lc, *ld)) return CUBLAS_STATUS_INVALID_VALUE;
    if (desc->has_aux() && !aligned(desc->aux, 16)) return CUBLAS_STATUS_INVALID_VALUE;
    for (const float* scale : desc->scale)
        if (!aligned(scale, 16)) return CUBLAS_STATUS_NOT_SUPPORTED;  // as cuBLASLt 13.1 answers
    const void* pointers[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i)
        if (algo && !aligned(pointers[i], algo->data[i]))
            return told("cublasLtMatmul: an operand is less aligned than its algorithm was told"), CUBLAS_STATUS_INVALID_VALUE;
    if (algo && workspace_bytes < algo->data[4])
        return told("cublasLtMatmul: less workspace than its algorithm needs"), CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes > 0 && !aligned(workspace, 256)) return CUBLAS_STATUS_INVALID_VALUE;
    const auto error = queue(stream, [desc = *desc, alpha = *static_cast<const float*>(alpha), beta = *static_cast<const float*>(beta),
                                      ma = Matrix{*la, static_cast<const char*>(a)}, mb = Matrix{*lb, static_cast<const char*>(b)},
                                      mc = Matrix{*lc, static_cast<const char*>(c)}, md = Matrix{*ld, static_cast<const char*>(d)}] {
        return multiply(desc, alpha, ma, mb, beta, mc, md);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
