// The inner loops of lib/optim: one pass over weight, gradient and state. Every function takes plain spans of f32; the reductions give the
// sums of one fixed block each, so that what is added up does not depend on the number of threads.
#pragma once

#include "base/rounding.h"
#include "kernels/kernel.h"

namespace ds::cpu {

// One step of an elementwise rule for n elements. constants[0] multiplies the gradient, constants[1] bounds its size afterwards (infinity:
// no bound), the rest belongs to the rule, whose file says what they are.
using Rule = void (*)(const float* constants, float* weight, const float* gradient, float* const* state, int64_t n);

Rule adam_rule();     // state m, v
Rule sgd_rule();      // state momentum, or none
Rule adagrad_rule();  // state sum
Rule rmsprop_rule();  // state square average, momentum, gradient average
Rule lion_rule();     // state m

inline constexpr int kMaxStates = 3;

// Applies a rule to elements [begin, end), and writes the new weights once more as `type` to low + begin unless low is null. rounding:
// null, or how bf16 is rounded, from element 0 on.
void sweep(Rule rule, const float* constants, float* weight, const float* gradient, float* const* state, int states, int64_t begin,
           int64_t end, void* low, DType type, const Rounding* rounding = nullptr);

// n numbers as bf16 (rounding.cpp).
void bf16_by_chance(const float* x, int64_t n, const Rounding& rounding, void* low);
// Those of elements [begin, begin + n) to low + begin, to the nearest or by chance.
void write_low(const float* x, int64_t begin, int64_t n, void* low, DType type, const Rounding* rounding);

// Sums of squares of blocks of kSquaresBlock elements, in f64: partial[i] for this thread's blocks. A sum that is not finite means that an
// element isn't.
inline constexpr int64_t kSquaresBlock = 16384;
inline int64_t squares_blocks(int64_t n) { return (n + kSquaresBlock - 1) / kSquaresBlock; }
void squares(const float* x, int64_t n, double* partial, Team team);
double sum_of_squares(const float* x, int64_t n);

// x *= factor, in this thread's part.
void scale_in_place(float* x, int64_t n, float factor, Team team);

// Lamb (lib/optim/lamb.cpp). moments: updates m and v and adds up |w|^2 and |u|^2; apply: w -= step u with the same u.
struct LambConstants {
    float scale, clip, beta1, rest1, beta2, rest2, eps, decay;
    bool eps_inside;
};
void lamb_moments(const LambConstants& c, const float* w, const float* g, float* m, float* v, int64_t n, double* w_squares,
                  double* u_squares);
void lamb_apply(const LambConstants& c, float step, float* w, const float* m, const float* v, int64_t n);

// Adafactor (lib/optim/adafactor.cpp). Adds the squares of a gradient row to `columns` and gives their sum.
float factor_row(float factor, float clip, const float* g, float* columns, int64_t n);
// x = x + weight (y factor - x)
void lerp(float* x, const float* y, float factor, float weight, int64_t n);
// u = g / sqrt(max(variance row_factor, least)); the sum of u^2, and w = w keep - step u where w is not null.
double factored_row(float factor, float clip, const float* g, const float* variance, float row_factor, float least, float* w, float keep,
                    float step, int64_t n);

// Muon (lib/optim/muon.cpp). m = m + (1 - momentum) (g - m); u = g + momentum (m - g) with nesterov, else m.
void muon_momentum(float factor, float clip, float momentum, bool nesterov, const float* g, float* m, float* u, int64_t n);
// y = x a + y b
void axpby(float a, const float* x, float b, float* y, int64_t n);

}  // namespace ds::cpu
