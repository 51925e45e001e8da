// The attributes of ops by which ranks share work, beyond the plain exchanges of attrs.h. A `share` says what rank `rank` of `ranks` along
// the mesh axis `group` holds.
#pragma once

#include "ops/attrs.h"

namespace ds {

// What is cut along dimension `dim` becomes whole there and cut along `to_dim`.
struct Recut {
    int64_t group = 0, rank = 0, ranks = 1;
    int64_t dim = 0, full = 0, period = 0, units = 0;
    int64_t to_dim = 0, to_full = 0, to_period = 0, to_units = 0;
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("rank", rank);
        v("ranks", ranks);
        v("dim", dim);
        v("full", full);
        v("period", period);
        v("units", units);
        v("to_dim", to_dim);
        v("to_full", to_full);
        v("to_period", to_period);
        v("to_units", to_units);
    }
};

struct Ring {
    int64_t group = 0, rank = 0, ranks = 1;
    int64_t rows = 0;  // of what the next rank has
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("rank", rank);
        v("ranks", ranks);
        v("rows", rows);
    }
};

struct Merge {
    bool last = false;       // no more parts follow: lse of a query that saw nothing becomes 0
    DType out = DType::f32;  // of y
    template <class V>
    void fields(V& v) {
        v("last", last);
        v("out", out);
    }
};

inline constexpr int32_t kIgnoredLabel = -100;  // of labels as a rank counts its words

// Cross-entropy of logits whose weight's rows, words, are cut over ranks.
struct ShardedCrossEntropy {
    CrossEntropy of;
    Share share;
    template <class V>
    void fields(V& v) {
        of.fields(v);
        share.fields(v);
    }
};

// Attention whose tokens are cut over ranks: `share` says how. The first member is what every attention has (passes read it as such).
struct SequenceAttention {
    Attention of;
    Share share;
    bool ring = true;  // keys and values travel; else tokens are exchanged for heads (Ulysses)
    template <class V>
    void fields(V& v) {
        of.fields(v);
        share.fields(v);
        v("ring", ring);
    }
};

}  // namespace ds
