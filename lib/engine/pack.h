// Packing: the rows of a padded batch [rows, length] become one stream of tokens without the masked positions that nothing needs.
#pragma once

#include "engine/program.h"

namespace ds {

// The tokens of a stream are rounded up to a bucket, so that few plans serve all lengths; at most about one token in 24 is filler.
int64_t bucket(int64_t tokens);

Result<Packed> pack_for_model(const Model& model, const Batch& batch, const std::set<std::string>& outputs, bool whole, int64_t first_row = 0);

}  // namespace ds
