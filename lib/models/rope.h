// Rotary frequencies from a config.json, in the spellings of transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters), with the scalings
// linear, llama3 and yarn as transformers' modeling_rope_utils computes them.
#pragma once

#include "models/model.h"

namespace ds::models {

// Where config.json says nothing: the base of the angles and which part of a head turns.
struct RopeDefaults { double theta = 10000, partial = 1; };
Result<RopeAngles> rope_angles_of(const Json& config, int64_t head_dim, int64_t max_positions, const RopeDefaults& defaults = {});

}  // namespace ds::models
