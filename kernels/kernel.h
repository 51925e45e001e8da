// What a kernel is: functions of pointers and sizes that a team of threads runs together, chosen at plan compile from a best-first list.
//
// A plan calls `prepare` once for each node: everything that depends on shapes only is decided there (primitives, tilings, scratch).
// At run time every thread of the team calls each phase with the same Call and its own Team; the executor puts a barrier between
// phases and after the last. A phase divides its work by itself: statically by Team, or by drawing tickets.
// Results must not depend on the number of threads in deterministic order of summation: a reduction is cut by sizes, never by team.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/round.h"
#include "base/status.h"

namespace ds {

inline constexpr int kMaxRank = 8;

// A strided-row view: dense row-major, except that rows (all dimensions but the last) may lie row_stride elements apart.
struct Tensor {
    void* data = nullptr;  // null: an optional input that is absent, or (in prepare) not yet placed
    DType dtype = DType::f32;
    int32_t rank = 0;
    int64_t dims[kMaxRank] = {};
    int64_t row_stride = 0;
    bool present = false;
    DType rounded = DType::f32;  // bf16: f32 elements stand for themselves rounded to that, which kernels do as they read

    int64_t columns() const { return rank ? dims[rank - 1] : 1; }
    int64_t rows() const {
        int64_t n = 1;
        for (int i = 0; i + 1 < rank; ++i) n *= dims[i];
        return n;
    }
    int64_t count() const { return rows() * columns(); }
    bool dense() const { return row_stride == columns(); }
    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
};

struct Team {
    int rank = 0, size = 1;
    // This thread's part [begin, end) of n items; parts are multiples of `grain` but for the last.
    struct Range {
        int64_t begin, end;
    };
    Range part(int64_t n, int64_t grain = 1) const {
        const int64_t blocks = (n + grain - 1) / grain;
        const int64_t first = blocks * rank / size, last = blocks * (rank + 1) / size;
        return {std::min(first * grain, n), std::min(last * grain, n)};
    }
};

class Links;

// What changes from run to run of one plan, besides tensors.
struct Runtime {
    uint64_t seed = 0;       // of the engine
    uint64_t step = 0;       // counts forward passes in training mode; dropout draws depend on it
    Links* links = nullptr;  // to other ranks (comm/communicator.h); null where there is one rank
    void* queue = nullptr;   // of a device, whose kernels' phases only queue work there; seed and step reach them through it
};

struct Call {
    const Tensor* in = nullptr;
    const Tensor* out = nullptr;
    const void* attrs = nullptr;   // the op's struct of ops/attrs.h
    void* state = nullptr;         // what prepare made
    std::byte* scratch = nullptr;  // Prepared::scratch_bytes, 64-byte aligned, shared by the team, contents undefined
    const Runtime* runtime = nullptr;
    std::atomic<int64_t>* ticket = nullptr;  // 0 at the start of each phase: fetch_add deals out work dynamically

    template <class A>
    const A& attr() const {
        return *static_cast<const A*>(attrs);
    }
};

using Phase = void (*)(const Call&, Team);

struct Request {  // what prepare may look at: types, shapes, strides, which optional inputs are present; no data
    std::span<const Tensor> in, out;
    const void* attrs = nullptr;
    int threads = 1;
    void* queue = nullptr;  // of the device that the kernel is for

    template <class A>
    const A& attr() const {
        return *static_cast<const A*>(attrs);
    }
};

struct Prepared {
    std::vector<Phase> phases;
    std::shared_ptr<void> state;
    int64_t scratch_bytes = 0;
};

struct KernelImpl {
    const char* name;                         // "flash_bf16_avx512"
    const char* (*declines)(const Request&);  // why it can't serve this request, or null
    Result<Prepared> (*prepare)(const Request&);
    bool exchanges = false;  // with other ranks: on a device such steps are not recorded
    bool rounds = false;     // serves operands that are Tensor::rounded

    const char* why_not(const Request& request) const {
        for (const Tensor& t : request.in)
            if (t.rounded != DType::f32 && !rounds) return "it does not round what it reads";
        return declines(request);
    }
};

// Best first; the first entry that does not decline serves.
struct KernelList {
    const KernelImpl* entries = nullptr;
    size_t count = 0;
    template <size_t N>
    constexpr KernelList(const KernelImpl (&list)[N]) : entries(list), count(N) {}
    const KernelImpl* begin() const { return entries; }
    const KernelImpl* end() const { return entries + count; }
};

inline const char* accepts_all(const Request&) { return nullptr; }

// A kernel with one phase and neither state nor scratch.
template <Phase phase>
Result<Prepared> simple(const Request&) {
    return Prepared{{phase}, nullptr, 0};
}

// Counter-based random numbers (Philox-4x32-10, Salmon et al. 2011): draw i of op `salt` at `runtime`, uniform in [0, 1).
float uniform_draw(const Runtime& runtime, uint64_t salt, uint64_t index);
// Draws 4 block to 4 block + 3, for the price of one.
void uniform_block(const Runtime& runtime, uint64_t salt, uint64_t block, float out[4]);

#define DS_KERNEL(device, op)   \
    namespace device {          \
    extern const KernelList op; \
    }
#include "kernels/kernels.def"
#undef DS_KERNEL

}  // namespace ds
