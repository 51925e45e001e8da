// Sums of products of 8-bit integers over panels of a weight that is kept as Int8Parts has it (lib/base/weight_code.h), which needs no
// packing. What differs between processors is one function.
#pragma once

#include <cstdint>

namespace ds::cpu {

inline constexpr int64_t kInt8Rows = 32, kInt8Columns = 32;  // of sums at most: two panels

// sums[r * 32 + j] = sum over steps * 64 inputs of a[r][i] * b[i][j], for rows r and the columns of one or two panels, panel_stride bytes
// apart. a has room for whole registers of 16 rows, stride bytes apart.
using Int8Sums = void (*)(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels,
                          int64_t panel_stride, int32_t* sums);

struct Int8Way {
    const char* name;
    Int8Sums sums;
    bool offset;                  // a is unsigned, 128 more than the value: the instruction wants it so
    void (*enter)(), (*leave)();  // around use in a thread; may be null
};
const Int8Way& int8_way();  // the best of what the processor has and DSRT_CPU allows

namespace detail {
void int8_amx(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
              int32_t* sums);
void int8_vnni(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
               int32_t* sums);
void int8_avx2(int64_t rows, int64_t steps, const int8_t* a, int64_t stride, const uint8_t* b, int64_t panels, int64_t panel_stride,
               int32_t* sums);
}  // namespace detail

}  // namespace ds::cpu
