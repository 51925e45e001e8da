// Which way attention over a stream that is cut over ranks goes, by what it costs a rank in a forward and a backward pass.
#pragma once

#include "ir/graph.h"
#include "passes/pass.h"

namespace ds::passes {

struct SequenceWay {
    bool ring = true;      // else Ulysses
    bool stripes = false;  // tokens are dealt out one by one, so that causal masks leave every rank as much to do
};

// q, k: of the whole stream and all heads. sequences: in the stream. A mode that the heads don't allow is an error.
Result<SequenceWay> cheapest_sequence_attention(const Attention& attrs, const Type& q, const Type& k, int64_t sequences,
                                                const SequenceLayout& layout, std::string* report);

}  // namespace ds::passes
