// Gradient clipping, by the global norm or element by element.
//   norm:   g *= min(1, max_norm / (norm + 1e-6)), norm = the L2 norm of all gradients together, unscaled (DeepSpeed, torch).
//   value:  g = min(max(g, -limit), limit).
#pragma once

#include <span>

namespace ds {

// The factor for every gradient; 1 where max_norm is 0 (clipping is off). A norm that isn't finite gives 1: such a step is skipped or
// reported elsewhere.
double clip_factor(double norm, double max_norm);

inline float clip_value(float g, float limit) { return g > limit ? limit : g < -limit ? -limit : g; }  // a NaN stays one
inline double clip_value(double g, double limit) { return g > limit ? limit : g < -limit ? -limit : g; }
void clip_values(std::span<float> gradients, float limit);  // limit 0 = off

}  // namespace ds
