// y = a @ op(b) (+ bias) (+ into) for a few rows of a: b is read once, from where it lies, and nothing is packed. Generation is bound by
// how fast weights come from memory, and packing them (gemm.h) would cost more than multiplying. Where rows of b are short, threads share
// its rows, so that each reads one long piece of memory.
#pragma once

#include "kernels/kernel.h"

namespace ds::cpu {

inline constexpr int64_t kMatvecRows = 8;  // from here on packing pays

const char* matvec_declines(const Request& request);
Result<Prepared> prepare_matvec(const Request& request);

// Of a, b, bias?, into? -> y: m rows of n <= kBlock sums, ld apart, with what is added to them, become y's from (row, first) on.
void finish_product(const Call& call, float* sums, int64_t ld, int64_t row, int64_t m, int64_t first, int64_t n);

}  // namespace ds::cpu
