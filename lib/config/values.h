// The values that have more than one spelling, each parsed in one place. Nothing where a value isn't of the kind.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"
#include "base/precision.h"

namespace ds {

struct Clipping {
    double norm = 0;   // largest global norm; 0 = off
    double value = 0;  // largest absolute value of an element; 0 = off
};
std::optional<Clipping> parse_clipping(const Json& value);  // 1.0, {"norm": 1.0}, {"value": 0.5}

// {"lm_head*": "f32"}, where the longest pattern comes first (an object has no order), or [{"match": "lm_head*", "dtype": "f32"}] in its
// order.
std::optional<std::vector<PrecisionRule>> parse_precision(const Json& value);

std::optional<DType> parse_float_dtype(const Json& value);  // "fp32", "f32", "float32", "torch.float32" ...
std::optional<int> parse_recompute(const Json& value);      // 0, 1, 2; "auto" is -1
std::optional<int> parse_log_level(const Json& value);      // "WARN" is 3: the levels of ds_set_log

}  // namespace ds
