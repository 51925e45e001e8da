// Generation with a cache, as a rewriting of a model's graph: attention becomes attention_cached, whose keys and values of earlier tokens
// lie in memory that outlives the run. The graph then computes new tokens only; which places they take and how long each sequence is are
// run-time data (`table`, `lengths`).
//
// The memory is a shadow of no parameter: kept by the engine as weights' shadows are, written by the op itself. Whoever builds the graph
// asks for it, before the passes; it is no row of passes.def.
//
// In an encoder-decoder the fresh graph also keeps what the decoder's layers look at of the encoder's tokens; later graphs read it, so that
// nothing of the encoder is left in them once dead nodes are swept.
#pragma once

#include <compare>

#include "ir/graph.h"

namespace ds {

struct CacheShape {
    int64_t pool = 0;                              // token places; 0: no cache
    int64_t capacity = 0;                          // tokens that a sequence may have
    bool fresh = false;                            // the graph runs prompts: nothing was cached before
    int64_t source_pool = 0, source_capacity = 0;  // likewise of an encoder's tokens
    auto operator<=>(const CacheShape&) const = default;
};

// dtype: of what is kept. E_UNSUPPORTED where attention looks at more than what came before and an encoder's tokens.
Status add_cache(Graph& graph, const CacheShape& shape, DType dtype);
inline bool is_cache(const Value& v) { return v.kind == Kind::shadow && v.of == kNone; }
// Of a shadow, or what is rounded, the weight; a cache is of none, and like any other value is itself.
inline const Value& weight_of(const Graph& graph, ValueId id) {
    const Value& v = graph.value(id);
    return v.of != kNone && v.kind != Kind::grad ? graph.value(v.of) : v;
}

}  // namespace ds
