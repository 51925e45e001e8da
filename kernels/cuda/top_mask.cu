// 1 where a score is among the largest, of equal ones the first; as kernels/compress.h has it. The smallest score that is kept is found
// four bits at a time: pieces count what has each next digit, one block picks the digit.
#include "kernels/cuda/device.cuh"
#include "ops/attrs_compress.h"

namespace ds::cuda {
namespace {

constexpr int kThreads = 256, kDigits = 16, kPasses = 8, kRun = 64;  // kRun: elements of a thread
constexpr int64_t kPiece = int64_t{kThreads} * kRun;

// Keys have the order of scores.
DS_DEVICE uint32_t key_of(float x) {
    union {
        float number;
        uint32_t bits;
    } u;
    u.number = x + 0.0f;  // one zero
    return u.bits & 0x80000000u ? ~u.bits : u.bits | 0x80000000u;
}

struct Scores {
    Rows x;
    DS_DEVICE int64_t count() const { return x.rows * x.columns; }
    DS_DEVICE float get(int64_t i) const { return x.get(i / x.columns, i % x.columns); }
};

// How far the search is.
struct Search {
    uint32_t key;  // its digits so far, zeros behind
    int64_t keep;  // of those that have them
};

DS_DEVICE bool has_digits(uint32_t key, uint32_t digits, int pass) {
    return pass == 0 || key >> (32 - 4 * pass) == digits >> (32 - 4 * pass);
}
DS_DEVICE int digit_of(uint32_t key, int pass) { return static_cast<int>(key >> (28 - 4 * pass) & 15); }

__global__ void count_kernel(Scores scores, Span<const Search> search, int pass, Span<int32_t> counts) {
    DS_SHARED(int, memory, 32);
    const uint32_t digits = pass == 0 ? 0 : search.get(0).key;
    const int64_t begin = int64_t{blockIdx.x} * kPiece, end = begin + kPiece < scores.count() ? begin + kPiece : scores.count();
    int of[kDigits] = {};
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
        const uint32_t key = key_of(scores.get(i));
        const int digit = has_digits(key, digits, pass) ? digit_of(key, pass) : -1;
#pragma unroll
        for (int d = 0; d < kDigits; ++d) of[d] += digit == d;
    }
#pragma unroll
    for (int d = 0; d < kDigits; ++d) {
        const int sum = sum_of_block(of[d], memory);
        if (threadIdx.x == 0) counts.put(int64_t{blockIdx.x} * kDigits + d, sum);
    }
}

// One block, a warp a digit.
__global__ void pick_kernel(Span<const int32_t> counts, int64_t pieces, int pass, int64_t keep, Span<Search> search) {
    DS_SHARED(int64_t, totals, kDigits);
    const auto digit = static_cast<int>(threadIdx.x / kWarp);
    int64_t total = 0;
    for (int64_t i = threadIdx.x % kWarp; i < pieces; i += kWarp) total += counts.get(i * kDigits + digit);
    total = sum_of_warp(total);
    if (threadIdx.x % kWarp == 0) totals.put(digit, total);
    barrier();
    if (threadIdx.x != 0) return;
    Search s = pass == 0 ? Search{0, keep} : search.get(0);
    int d = kDigits - 1;
    for (; d > 0 && totals.get(d) < s.keep; --d) s.keep -= totals.get(d);
    s.key |= static_cast<uint32_t>(d) << (28 - 4 * pass);
    search.put(0, s);
}

// counts: of the last digit, so those of the key that was found.
__global__ void mark_kernel(Scores scores, Span<const Search> search, Span<const int32_t> counts, Rows y) {
    DS_SHARED(int, memory, 32);
    DS_SHARED(int, equal, kThreads);
    const Search s = search.get(0);
    const int digit = digit_of(s.key, kPasses - 1);
    int before = 0;
    for (int64_t i = threadIdx.x; i < int64_t{blockIdx.x}; i += kThreads) before += counts.get(i * kDigits + digit);
    before = sum_of_block(before, memory);
    const int64_t begin = int64_t{blockIdx.x} * kPiece + threadIdx.x * kRun,
                  end = begin + kRun < scores.count() ? begin + kRun : scores.count();
    int own = 0;
    for (int64_t i = begin; i < end; ++i) own += key_of(scores.get(i)) == s.key;
    equal.put(threadIdx.x, own);
    barrier();
    for (unsigned i = 0; i < threadIdx.x; ++i) before += equal.get(static_cast<int>(i));
    for (int64_t i = begin; i < end; ++i) {
        const uint32_t key = key_of(scores.get(i));
        const bool kept = key > s.key || (key == s.key && before++ < s.keep);
        y.put(i / y.columns, i % y.columns, kept ? 1.0f : 0.0f);
    }
}

// The n largest of each m neighbours.
__global__ void neighbours_kernel(Scores scores, int64_t n, int64_t m, Rows y) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < scores.count(); i += step) {
        const float x = scores.get(i);
        int64_t larger = 0;
        for (int64_t j = i / m * m; j < i / m * m + m; ++j) {
            const float other = scores.get(j);
            larger += other > x || (other == x && j < i);
        }
        y.put(i / y.columns, i % y.columns, larger < n ? 1.0f : 0.0f);
    }
}

__global__ void same_kernel(Rows y, float x) {
    const int64_t step = int64_t{gridDim.x} * blockDim.x;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < y.rows * y.columns; i += step)
        y.put(i / y.columns, i % y.columns, x);
}

void run(const Call& c, Queue& q) {
    const TopMask& a = c.attr<TopMask>();
    const Scores scores{rows_of(c.in[0])};
    const Rows y = rows_of(c.out[0]);
    const int64_t count = c.in[0].count(), keep = static_cast<int64_t>(std::ceil(a.ratio * static_cast<double>(count))),
                  pieces = (count + kPiece - 1) / kPiece;
    if (count == 0) return;
    const unsigned everywhere = striding_blocks(count, kThreads, 1 << 16);
    if (a.m > 0) return launch(q, everywhere, kThreads, 0, neighbours_kernel, scores, a.n, a.m, y);
    if (keep <= 0 || keep >= count) return launch(q, everywhere, kThreads, 0, same_kernel, y, keep <= 0 ? 0.0f : 1.0f);
    const Span<Search> search = scratch<Search>(c, 0, 1);
    const Span<int32_t> counts = scratch<int32_t>(c, sizeof(Search), pieces * kDigits);
    const Span<const Search> so_far{search.data, 1};
    const Span<const int32_t> counted{counts.data, counts.n};
    for (int pass = 0; pass < kPasses; ++pass) {
        launch(q, static_cast<unsigned>(pieces), kThreads, 0, count_kernel, scores, so_far, pass, counts);
        launch(q, 1, kDigits * kWarp, 0, pick_kernel, counted, pieces, pass, keep, search);
    }
    launch(q, static_cast<unsigned>(pieces), kThreads, 0, mark_kernel, scores, so_far, counted, y);
}

Result<Prepared> prepare(const Request& r) {
    return Prepared{{queued<run>}, nullptr, static_cast<int64_t>(sizeof(Search)) + (r.in[0].count() + kPiece - 1) / kPiece * kDigits * 4};
}

constexpr KernelImpl kMask[] = {{"cuda", accepts_floats, prepare}};

}  // namespace

extern const KernelList top_mask{kMask};

}  // namespace ds::cuda
