#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

// Parameters that only products and lookups read, so that they may be kept in bf16 alone.
std::vector<std::string> weights_in_low_products(const Graph& graph);

}  // namespace ds
