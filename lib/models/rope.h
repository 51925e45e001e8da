// Rotary frequencies from a config.json, in the spellings of transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters), with the
// scalings linear, llama3, yarn, dynamic and longrope as transformers' modeling_rope_utils computes them.
#pragma once

#include "models/model.h"

namespace ds::models {

// Where config.json says nothing: the base of the angles, and which part of a head turns. Families of whole heads leave `partial` out; they
// don't read that field.
struct RopeDefaults {
    double theta = 10000;
    std::optional<double> partial;
};
// dynamic and longrope turn by other angles as soon as a row is longer than what the model was made for: that is not built, and longer rows
// are refused (Model::max_positions, Model::limit).
Result<RopeAngles> read_rope(Model& m, const Json& config, int64_t head_dim, int64_t max_positions, const RopeDefaults& defaults = {});

}  // namespace ds::models
