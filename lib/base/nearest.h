// The known word that a mistyped one is closest to, for "did you mean ...?".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ds {

// Insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

// The candidate at the least distance, the first of equals; "" without candidates. Letter case costs nothing.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace ds
