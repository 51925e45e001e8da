// Attributes of the ops of ops/zero.cpp, apart from attrs.h because few files read them.
#pragma once

#include "base/mesh.h"
#include "ops/attrs.h"

namespace ds {

// The group, besides those along the mesh's axes, of the data ranks that hold the same experts.
inline constexpr int64_t kSameExperts = kAxes;

// Values one behind the other, from starts[i] on, in `size` elements.
struct Bucket {
    std::vector<int64_t> starts;
    int64_t size = 0;
    template <class V>
    void fields(V& v) {
        v("starts", starts);
        v("size", size);
    }
};

// Elements dealt out to the ranks of a group: rank r has those from ends[r - 1] (0 for the first) up to ends[r].
struct Parts {
    int64_t group = 0, rank = 0;
    std::vector<int64_t> ends;
    std::vector<int64_t> shape;  // of the whole
    DType wire = DType::f32;     // of summands on their way
    template <class V>
    void fields(V& v) {
        v("group", group);
        v("rank", rank);
        v("ends", ends);
        v("shape", shape);
        v("wire", wire);
    }
    int64_t begin(int64_t r) const { return r ? ends[static_cast<size_t>(r - 1)] : 0; }
    int64_t size(int64_t r) const { return ends[static_cast<size_t>(r)] - begin(r); }
};

// Weights that are kept outside of memory, under this number.
struct Fetch {
    int64_t slot = 0;
    std::vector<int64_t> shape;
    DType dtype = DType::f32;
    template <class V>
    void fields(V& v) {
        v("slot", slot);
        v("shape", shape);
        v("dtype", dtype);
    }
};

}  // namespace ds
