// Drives f32 block functions over whole tensors of any float type: flat where every operand is dense, else row by row; a team splits the
// blocks.
#pragma once

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"

namespace ds::cpu {

// A kernel of phases without state or scratch whose functions Highway chooses; level() makes the choice obey DSRT_CPU.
template <Phase... phases>
Result<Prepared> simd(const Request&) {
    level();
    return Prepared{{phases...}, nullptr, 0};
}

// Why elementwise kernels decline.
inline const char* floats_only(const Request& request) {
    for (const Tensor& t : request.in)
        if (t.present && !is_simd_float(t.dtype)) return "an input is not f32, bf16 or f16";
    for (const Tensor& t : request.out)
        if (!is_simd_float(t.dtype)) return "an output is not f32, bf16 or f16";
    return nullptr;
}

using Map1 = void (*)(const float* x, float* y, int64_t n, float parameter);
using Map2 = void (*)(const float* a, const float* b, float* y, int64_t n);

// Calls f(row, column, n) for this thread's blocks of a rows x columns matrix.
template <class F>
void blocks(bool flat, int64_t rows, int64_t columns, Team team, const F& f) {
    if (flat) {
        const auto [begin, end] = team.part(rows * columns, kBlock);
        for (int64_t i = begin; i < end; i += kBlock) f(int64_t{0}, i, std::min(kBlock, end - i));
        return;
    }
    const auto [begin, end] = team.part(rows);
    for (int64_t row = begin; row < end; ++row)
        for (int64_t i = 0; i < columns; i += kBlock) f(row, i, std::min(kBlock, columns - i));
}

inline void map1(const Call& call, Team team, Map1 function, float parameter = 0) {
    const Tensor &x = call.in[0], &y = call.out[0];
    blocks(x.dense() && y.dense(), y.rows(), y.columns(), team, [&](int64_t row, int64_t column, int64_t n) {
        alignas(64) float from[kBlock], to[kBlock];
        const Out out(y, row, column, to);
        function(read(x, row, column, n, from), out.data(), n, parameter);
        out.done(n);
    });
}

// Two inputs of the output's shape.
inline void map2(const Call& call, Team team, Map2 function) {
    const Tensor &a = call.in[0], &b = call.in[1], &y = call.out[0];
    blocks(a.dense() && b.dense() && y.dense(), y.rows(), y.columns(), team, [&](int64_t row, int64_t column, int64_t n) {
        alignas(64) float left[kBlock], right[kBlock], to[kBlock];
        const Out out(y, row, column, to);
        function(read(a, row, column, n, left), read(b, row, column, n, right), out.data(), n);
        out.done(n);
    });
}

}  // namespace ds::cpu
