// Pieces of rows of logits that both cross-entropies share.
#pragma once

#include "kernels/kernel.h"
#include "ops/attrs.h"

namespace ds::cpu {

// The sum of exp(x - most) over what was seen so far.
struct Running {
    float most = -__builtin_inff(), total = 0;
    void see(const float* x, int64_t n);
    void see(const Running& other);
    float log() const;
    float loss(float label) const;  // log() - label, without cancellation where label is the largest
};

float largest_of(const float* x, int64_t n);          // -infinity of none
int64_t place_of_largest(const float* x, int64_t n);  // the first of them; 0 where there is none but NaN

void softmax_of(const float* x, int64_t n, float lse, float factor, float* y);  // y = exp(x - lse) factor; y may be x
void add_to(const float* x, int64_t n, float* y);                               // y += x
void take_off(float* x, int64_t n, double lse);                                 // x -= lse, the difference rounded once

struct Labels {
    const int32_t* data;
    int64_t count, ignore;

    Labels(const Tensor& t, const void* attrs)
        : data(t.as<int32_t>()), count(t.count()), ignore(static_cast<const CrossEntropy*>(attrs)->ignore) {}
    bool ignored(int64_t row) const { return data[row] == ignore; }
    int64_t labelled() const {
        int64_t n = 0;
        for (int64_t i = 0; i < count; ++i) n += !ignored(i);
        return n;
    }
    // The mean over labelled rows of losses, summed in their order.
    float mean(const float* losses) const {
        double sum_of = 0;
        int64_t n = 0;
        for (int64_t i = 0; i < count; ++i)
            if (!ignored(i)) sum_of += static_cast<double>(losses[i]), ++n;
        return n ? static_cast<float>(sum_of / static_cast<double>(n)) : 0.0f;
    }
};

}  // namespace ds::cpu
