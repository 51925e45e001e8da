// Rows of a table by id, and the gradient of the table. An id outside the table is a row of zeros, and its gradient goes nowhere.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/map.h"
#include "ops/attrs.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

void add_to(const float* x, float* sum, int64_t n) {
    each(n, [=](auto at) HWY_ATTR { at.store(hn::Add(at.load(sum), at.load(x)), sum); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(add_to);

const char* table_not_float(const Request& request) {
    return is_simd_float(request.in[0].dtype) && is_simd_float(request.out[0].dtype) ? nullptr : "not f32, bf16 or f16";
}

void gather(const Call& call, Team team) {
    const Tensor &table = call.in[0], &y = call.out[0];
    const int32_t* ids = call.in[1].as<int32_t>();
    const int64_t n = y.columns();
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        std::byte* to = address(y, row);
        if (ids[row] < 0 || ids[row] >= table.dims[0]) {
            std::memset(to, 0, static_cast<size_t>(n * float_size(y.dtype)));
        } else if (table.dtype == y.dtype) {
            std::memcpy(to, address(table, ids[row]), static_cast<size_t>(n * float_size(y.dtype)));
        } else {
            for (int64_t i = 0; i < n; i += kBlock) {
                alignas(64) float buffer[kBlock];
                const int64_t part = std::min(kBlock, n - i);
                from_f32(read(table, ids[row], i, part, buffer), part, y.dtype, address(y, row, i));
            }
        }
    }
}

// Nothing to do where the gradient is added in place.
void start(const Call& call, Team team) {
    const Tensor &into = call.in[2], &y = call.out[0];
    if (into.present && into.data == y.data) return;
    const int64_t n = y.columns();
    const auto [begin, end] = team.part(y.rows());
    for (int64_t row = begin; row < end; ++row) {
        float* to = y.as<float>() + row * y.row_stride;
        if (into.present) to_f32(address(into, row), into.dtype, n, to);
        else std::memset(to, 0, static_cast<size_t>(n) * 4);
    }
}

// Every thread adds all rows, of its own columns, in the order of the tokens.
void scatter(const Call& call, Team team) {
    const Tensor &dy = call.in[0], &y = call.out[0];
    const int32_t* ids = call.in[1].as<int32_t>();
    const int64_t rows = dy.rows(), table_rows = y.rows(), padding = call.attr<Rows>().padding;
    const auto [begin, end] = team.part(y.columns(), 16);
    for (int64_t first = begin; first < end; first += kBlock) {
        const int64_t n = std::min(kBlock, end - first);
        for (int64_t row = 0; row < rows; ++row) {
            if (ids[row] < 0 || ids[row] >= table_rows || ids[row] == padding) continue;
            alignas(64) float buffer[kBlock];
            HWY_DYNAMIC_DISPATCH(add_to)(read(dy, row, first, n, buffer), y.as<float>() + ids[row] * y.row_stride + first, n);
        }
    }
}

constexpr KernelImpl kEmbedding[] = {{"rows", table_not_float, simd<gather>}};
constexpr KernelImpl kEmbeddingGrad[] = {{"by_columns", table_not_float, simd<start, scatter>}};

}  // namespace

const KernelList embedding{kEmbedding}, embedding_grad{kEmbeddingGrad};

}  // namespace ds::cpu
#endif
