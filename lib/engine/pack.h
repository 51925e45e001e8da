// Packing: the rows of a padded batch [rows, length] become one stream of tokens without the masked positions that nothing needs.
#pragma once

#include "engine/program.h"

namespace ds {

// The tokens of a stream are rounded up to a bucket, so that few plans serve all lengths; at most about one token in 24 is filler.
int64_t bucket(int64_t tokens);

// Whether outputs were asked for in which masked positions count too: of the stream, of an encoder's.
struct WholeOutputs {
    bool tokens = false, source = false;
};

Result<Packed> pack_for_model(const Model& model, const Batch& batch, const std::set<std::string>& outputs, WholeOutputs whole,
                              int64_t first_row = 0);

}  // namespace ds
