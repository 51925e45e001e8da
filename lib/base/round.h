// Sizes in whole units.
#pragma once

#include <type_traits>

namespace ds {

// The least multiple that is not below n.
template <class T>
constexpr T round_up(T n, std::type_identity_t<T> multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

}  // namespace ds
