// The attributes of every op that has some: plain structs with defaults. `fields` names each member once; parsing, printing, comparison
// and the op list that hosts read all come from it. Kernels read the same structs.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"

namespace ds {

struct NoAttrs {
    template <class V>
    void fields(V&) {}
};

struct Cast {
    DType to = DType::f32;
    template <class V>
    void fields(V& v) {
        v("to", to);
    }
};

struct Gelu {
    bool tanh = false;  // the tanh approximation (gelu_new, gelu_pytorch_tanh) instead of erf
    template <class V>
    void fields(V& v) {
        v("tanh", tanh);
    }
};

struct Scale {
    double factor = 1;
    template <class V>
    void fields(V& v) {
        v("factor", factor);
    }
};

// y = op(a) @ op(b) (+ bias) (+ into). Rank 2, or leading batch dimensions of a that b has too or lacks.
struct Matmul {
    bool transpose_a = false, transpose_b = false;
    DType out = DType::f32;  // of y when set_out; else y has the wider type of a and b
    bool set_out = false;
    template <class V>
    void fields(V& v) {
        v("transpose_a", transpose_a);
        v("transpose_b", transpose_b);
        v("out", out);
        v("set_out", set_out);
    }
};

struct Permute {
    std::vector<int64_t> perm;  // empty reverses the dimensions
    template <class V>
    void fields(V& v) {
        v("perm", perm);
    }
};

// 0 keeps the input's dimension at that place, one -1 is inferred.
struct Reshape {
    std::vector<int64_t> shape;
    template <class V>
    void fields(V& v) {
        v("shape", shape);
    }
};

struct Slice {
    int64_t axis = 0, begin = 0, end = INT64_MAX;  // negative begin or end count from the end
    template <class V>
    void fields(V& v) {
        v("axis", axis);
        v("begin", begin);
        v("end", end);
    }
};

struct Axis {
    int64_t axis = -1;
    template <class V>
    void fields(V& v) {
        v("axis", axis);
    }
};

struct Split {
    int64_t axis = -1;
    std::vector<int64_t> sizes;
    template <class V>
    void fields(V& v) {
        v("axis", axis);
        v("sizes", sizes);
    }
};

struct Reduce {
    std::vector<int64_t> axes;  // empty: all
    bool keep = false;
    template <class V>
    void fields(V& v) {
        v("axes", axes);
        v("keep", keep);
    }
};

struct Norm {
    double eps = 1e-5;
    DType out = DType::f32;  // of y
    template <class V>
    void fields(V& v) {
        v("eps", eps);
        v("out", out);
    }
};

struct Rows {
    int64_t rows = 0;      // of the table whose gradient this is
    int64_t padding = -1;  // as Embedding's
    template <class V>
    void fields(V& v) {
        v("rows", rows);
        v("padding", padding);
    }
};

// inside: no id is negative; a promise of who built the graph, by which a pass may look up rows before they are computed.
// padding: a row that receives no gradient, as torch's padding_idx; -1: none.
struct Embedding {
    bool inside = false;
    int64_t padding = -1;
    template <class V>
    void fields(V& v) {
        v("inside", inside);
        v("padding", padding);
    }
};

// Angles are position * inv_freq[j]; cos and sin are multiplied by `scale` (the attention factor of scaled rope).
struct RopeAngles {
    std::vector<double> inv_freq;
    double scale = 1;
    template <class V>
    void fields(V& v) {
        v("inv_freq", inv_freq);
        v("scale", scale);
    }
};

// Su et al. 2021. Rotates pairs (i, i + head_dim/2), or (2i, 2i+1) when interleaved, of each head; columns from 2 * pairs of a head on pass
// unchanged.
struct Rope {
    int64_t head_dim = 0;  // 0: the last dimension of x
    double theta = 10000;  // used only without the angles input
    bool interleaved = false;
    bool inverse = false;  // rotates back: the gradient
    template <class V>
    void fields(V& v) {
        v("head_dim", head_dim);
        v("theta", theta);
        v("interleaved", interleaved);
        v("inverse", inverse);
    }
};

struct Attention {
    int64_t heads = 1, kv_heads = 0;  // kv_heads 0: as heads
    bool causal = false;
    int64_t window = 0;  // keys at most window - 1 places before the query; 0: no limit
    double scale = 0;    // of the scores; 0: 1 / sqrt(head size)
    double dropout = 0;
    int64_t salt = 0;            // tells this op's random numbers from others'
    int64_t max_distance = 128;  // of the relative bias: from there on all keys share a bucket
    bool both_ways = false;      // of the relative bias: half of its buckets are for keys after the query; else those count as distance 0
    int64_t block = 0;           // places a block of the layout has, in rows and columns
    int64_t first_head = 0,
            all_heads = 0;  // these heads are a share of all_heads; 0: they are all. Random numbers belong to heads of the whole
    template <class V>
    void fields(V& v) {
        v("max_distance", max_distance);
        v("both_ways", both_ways);
        v("block", block);
        v("first_head", first_head);
        v("all_heads", all_heads);
        v("heads", heads);
        v("kv_heads", kv_heads);
        v("causal", causal);
        v("window", window);
        v("scale", scale);
        v("dropout", dropout);
        v("salt", salt);
    }
};

struct TopK {
    int64_t k = 1;
    template <class V>
    void fields(V& v) {
        v("k", k);
    }
};

// Of mixture-of-experts routing. An expert takes at most max(min_capacity, ceil(capacity_factor * k * tokens / experts)) rows, those of
// earlier tokens first; factor 0: as many as come.
struct Routing {
    int64_t experts = 1;
    double capacity_factor = 0;
    int64_t min_capacity = 4;
    template <class V>
    void fields(V& v) {
        v("experts", experts);
        v("capacity_factor", capacity_factor);
        v("min_capacity", min_capacity);
    }
};

// How expert_send and expert_return exchange rows: `ranks` neighbours on the axis `group`, from `base` on, hold near-even parts of the
// experts.
struct ExpertGroup {
    int64_t group = 0, base = 0, rank = 0, ranks = 1, experts = 1;
    int64_t rows = 0;  // that a rank makes room for
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("base", base);
        v("rank", rank);
        v("ranks", ranks);
        v("experts", experts);
        v("rows", rows);
    }
};

struct Lstm {
    bool reverse = false;  // from the last token of a sequence to its first
    template <class V>
    void fields(V& v) {
        v("reverse", reverse);
    }
};

struct CrossEntropy {
    int64_t ignore = -100;
    bool keep = false;  // linear_cross_entropy leaves logits to its gradient in memory as large as weight (pass keep_logits)
    template <class V>
    void fields(V& v) {
        v("ignore", ignore);
        v("keep", keep);
    }
};

struct Dropout {
    double p = 0.1;
    int64_t salt = 0;
    template <class V>
    void fields(V& v) {
        v("p", p);
        v("salt", salt);
    }
};

struct Fill {
    double value = 0;
    std::vector<int64_t> shape;
    DType dtype = DType::f32;
    template <class V>
    void fields(V& v) {
        v("value", value);
        v("shape", shape);
        v("dtype", dtype);
    }
};

// Collectives: `group` is a MeshAxis. A share is what rank `rank` of `ranks` holds of dimension `dim`, cut as base/mesh.h's Cut says.
struct Exchange {
    int64_t group = 0;
    bool sum_gradient = false;  // of all_reduce: each rank's gradient is a summand
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("sum_gradient", sum_gradient);
    }
};

struct Share {
    int64_t group = 0, rank = 0, ranks = 1;
    int64_t dim = 0, full = 0, period = 0, units = 0;
    bool sum_gradient = false;  // of all_gather: each rank's gradient is a summand
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("rank", rank);
        v("ranks", ranks);
        v("dim", dim);
        v("full", full);
        v("period", period);
        v("units", units);
        v("sum_gradient", sum_gradient);
    }
};

}  // namespace ds
