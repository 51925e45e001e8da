// What attention does with a tile of scores between its matrix products: masks, softmax, dropout, and their gradient.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/random_keys.h"

namespace ds::cpu {

inline constexpr int64_t kMostKeys = 64;  // in a tile
inline constexpr int64_t kScorePad = 16;  // arrays over queries or keys of a tile are filled up to a multiple of this

// Query i sees key j when place[j] < limit[i] and query_token[i] - key_token[j] < window.
struct Visible {
    const int32_t *place, *key_token;    // of keys
    const int32_t *limit, *query_token;  // of queries
    int32_t window;
};

// The draw of a pair is low/high[i] + offset[j].
struct Draws {
    RandomKeys keys;
    const uint32_t *low, *high;  // of queries
    const uint32_t* offset;      // of keys
    float p, factor;             // kept ones are multiplied by factor
};

// s[key][query] (rows `stride` apart) becomes exp(factor s - most), dropped. most and total (of the undropped) go on from earlier tiles;
// rescale becomes what sums of earlier tiles must be multiplied by.
void softmax_tile(float* s, int64_t stride, int64_t keys, int64_t queries, float factor, const Visible* visible, const Draws* draws,
                  float* most, float* total, float* rescale);

// s[query][key] becomes the dropped probabilities exp(factor s - lse), and dp, the gradient of those, becomes that of s. Columns up to
// kScorePad are zeroed.
void softmax_grad_tile(float* s, float* dp, int64_t stride, int64_t queries, int64_t keys, float factor, const float* lse,
                       const float* delta, const Visible* visible, const Draws* draws);

void scale_rows(float* x, int64_t stride, int64_t rows, int64_t columns, const float* factors);
// After the last tile: most becomes the log of the sum of exponentials, and total what the weighted sums must be multiplied by; both 0
// where nothing was seen.
void finish_softmax(int64_t queries, float* most, float* total);
// out[i] = row i of a . row i of b.
void row_dots(DType a_type, const void* a, int64_t a_stride, DType b_type, const void* b, int64_t b_stride, int64_t rows, int64_t size,
              float* out);

}  // namespace ds::cpu
