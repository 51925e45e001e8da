// In place of fmt for what nvcc compiles: it can't digest fmt 9, and kernels format nothing. Enough for base/status.h to be read.
#pragma once

#include <string>
#include <utility>

namespace fmt {
template <class...>
using format_string = const char*;
template <class... Args>
std::string format(const char*, Args&&...) = delete;
}  // namespace fmt
