// A rule of mixed precision: which element type the operations run in whose name, or whose parameter's name, matches a glob.
#pragma once

#include <string>

#include "base/dtype.h"

namespace ds {

struct PrecisionRule {
    std::string pattern;  // glob over parameter and op names
    DType dtype = DType::f32;
};

}  // namespace ds
