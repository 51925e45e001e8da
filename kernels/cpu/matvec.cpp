#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matvec.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/matvec.h"
#include "ops/attrs.h"

namespace ds::cpu {
#ifndef DS_CPU_MATVEC
#define DS_CPU_MATVEC
struct FewRows {
    const float* a;  // m rows of k
    int64_t m, k, lda;
    const void* b;  // as it lies, from the first column (or row) of this part on
    DType type;
    int64_t ldb, n;
    float* y;  // m rows of n sums, ldy apart
    int64_t ldy;
};
#endif
}  // namespace ds::cpu

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE V wide(const float* p) { return hn::LoadU(d, p); }
HWY_INLINE V wide(const uint16_t* p) { return load_bf16(d, p); }
// Asks for what is read next. The processor's own prefetchers see short runs that change places, and stop at the end of each page.
HWY_INLINE void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }
HWY_INLINE float wide_one(float x) { return x; }
HWY_INLINE float wide_one(uint16_t x) { return ds::to_f32(BF16{x}); }

constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3;

// b lies as [k, n]: y[i] += a[i][u] * b[u] for kDepth rows u of b at a time, over a part of the columns that stays in the first cache.
constexpr int64_t kDepth = 4;
template <int M, bool kAhead, class T>
HWY_INLINE void add_rows(const FewRows& p, const T* b, const float* a, float* y, int64_t n, int64_t depth) {
    float weight[M][kDepth];
    const T* row[kDepth];
    for (int64_t u = 0; u < kDepth; ++u) {
        row[u] = b + (u < depth ? u : 0) * p.ldb;
        for (int i = 0; i < M; ++i) weight[i][u] = u < depth ? a[i * p.lda + u] : 0;
    }
    int64_t j = 0;
    for (const int64_t step = lanes(); j + step <= n; j += step) {
        if constexpr (kAhead)
            for (int64_t u = 0; u < kDepth; ++u) fetch(row[u] + kDepth * p.ldb + j);
        V column[kDepth];
        for (int64_t u = 0; u < kDepth; ++u) column[u] = wide(row[u] + j);
        for (int i = 0; i < M; ++i) {
            float* to = y + i * p.ldy + j;
            V s = hn::LoadU(d, to);
            for (int64_t u = 0; u < kDepth; ++u) s = hn::MulAdd(hn::Set(d, weight[i][u]), column[u], s);
            hn::StoreU(s, d, to);
        }
    }
    for (; j < n; ++j)
        for (int i = 0; i < M; ++i)
            for (int64_t u = 0; u < depth; ++u) y[i * p.ldy + j] += weight[i][u] * wide_one(row[u][j]);
}

template <class T>
void by_columns(const FewRows& p) {
    const T* b = static_cast<const T*>(p.b);
    for (int64_t u = 0; u < p.k; u += kDepth) {
        const int64_t depth = p.k - u < kDepth ? p.k - u : kDepth;
        const T* rows = b + u * p.ldb;
        for (int64_t i = 0; i < p.m;) {
            const float* a = p.a + i * p.lda + u;
            float* y = p.y + i * p.ldy;
            const bool ahead = i == 0 && p.k - u >= 2 * kDepth;
            if (p.m - i >= 4) ahead ? add_rows<4, true>(p, rows, a, y, p.n, depth) : add_rows<4, false>(p, rows, a, y, p.n, depth), i += 4;
            else if (p.m - i >= 2)
                ahead ? add_rows<2, true>(p, rows, a, y, p.n, depth) : add_rows<2, false>(p, rows, a, y, p.n, depth), i += 2;
            else ahead ? add_rows<1, true>(p, rows, a, y, p.n, depth) : add_rows<1, false>(p, rows, a, y, p.n, depth), i += 1;
        }
    }
}

// b lies as [n, k]: dot products of M rows of a with N rows of b.
template <int M, int N, class T>
HWY_INLINE void dots(const FewRows& p, const T* b, const float* a, float* y) {
    V sum[M][N];
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) sum[i][j] = hn::Zero(d);
    int64_t u = 0;
    for (const int64_t step = lanes(); u + step <= p.k; u += step)
        for (int j = 0; j < N; ++j) {
            fetch(b + (j + N) * p.ldb + u);
            const V column = wide(b + j * p.ldb + u);
            for (int i = 0; i < M; ++i) sum[i][j] = hn::MulAdd(hn::LoadU(d, a + i * p.lda + u), column, sum[i][j]);
        }
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) {
            float s = total(sum[i][j]);
            for (int64_t at = u; at < p.k; ++at) s += a[i * p.lda + at] * wide_one(b[j * p.ldb + at]);
            y[i * p.ldy + j] += s;
        }
}

template <int M, class T>
HWY_INLINE void rows_of(const FewRows& p, const T* b, const float* a, float* y, int64_t n) {
    constexpr int N = M == 1 || kManyRegisters ? 4 : 8 / M;
    int64_t j = 0;
    for (; j + N <= n; j += N) dots<M, N>(p, b + j * p.ldb, a, y + j);
    for (; j < n; ++j) dots<M, 1>(p, b + j * p.ldb, a, y + j);
}

template <class T>
void by_rows(const FewRows& p) {
    constexpr int64_t block = 4;  // rows of b, read from memory once for all rows of a
    const T* b = static_cast<const T*>(p.b);
    for (int64_t j = 0; j < p.n; j += block) {
        const int64_t n = p.n - j < block ? p.n - j : block;
        for (int64_t i = 0; i < p.m;) {
            const float* a = p.a + i * p.lda;
            float* y = p.y + i * p.ldy + j;
            if (p.m - i >= 4) rows_of<4>(p, b + j * p.ldb, a, y, n), i += 4;
            else if (p.m - i >= 2) rows_of<2>(p, b + j * p.ldb, a, y, n), i += 2;
            else rows_of<1>(p, b + j * p.ldb, a, y, n), i += 1;
        }
    }
}

}  // namespace

void few_rows(const FewRows& p, bool transposed) {
    if (p.type == DType::f32) transposed ? by_rows<float>(p) : by_columns<float>(p);
    else transposed ? by_rows<uint16_t>(p) : by_columns<uint16_t>(p);
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstring>

namespace ds::cpu {
namespace {
HWY_EXPORT(few_rows);

constexpr int64_t kColumns = kBlock;       // of y that a part has: its sums stay in the first cache
constexpr int64_t kPartBytes = 256 << 10;  // of b that a thread takes at a time, where its rows are outputs
constexpr int64_t kMostParts =
    16;  // of b's rows, where threads share those: a number that the size decides, so that sums are the same for any team
constexpr int64_t kPartRows = 96;  // at least: a part's sums are written and read again
constexpr int64_t kNarrow =
    16384;  // bytes of a row of b up to which threads share rows: of columns a thread would read pieces too short for the prefetchers
constexpr int64_t kSums = 8192;  // floats of sums that stay in the first cache

struct State {
    int64_t m, n, k;
    int64_t own;              // floats of scratch of a thread
    int64_t step;             // columns of y that a thread takes at a time
    int64_t parts, deep, ld;  // of b's rows; rows of a part; floats from one row of sums to the next
};

// Numbers below n, each of which one thread of the team gets: whichever comes first.
template <class F>
void draw(const Call& call, int64_t n, const F& f) {
    for (int64_t i = call.ticket->fetch_add(1); i < n; i = call.ticket->fetch_add(1)) f(i);
}

// Threads take columns of b, or its rows where it is transposed.
void multiply(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &a = call.in[0], &b = call.in[1];
    const bool transposed = call.attr<Matmul>().transpose_b;
    const auto run = HWY_DYNAMIC_DISPATCH(few_rows);
    float *rows = reinterpret_cast<float*>(call.scratch) + team.rank * s.own, *sums = rows + s.m * padded(s.k);
    for (int64_t i = 0; i < s.m; ++i) to_f32(address(a, i), a.dtype, s.k, rows + i * padded(s.k));
    draw(call, (s.n + s.step - 1) / s.step, [&](int64_t part) {
        const int64_t first = part * s.step, n = std::min(s.step, s.n - first);
        std::memset(sums, 0, static_cast<size_t>(s.m * s.step) * 4);
        run({rows, s.m, s.k, padded(s.k), transposed ? address(b, first) : address(b, 0, first), b.dtype, b.row_stride, n, sums, s.step},
            transposed);
        finish_product(call, sums, s.step, 0, s.m, first, n);
    });
}

// Threads take rows of b, which lie one after the other: each part's sums first ...
void multiply_parts(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const Tensor &a = call.in[0], &b = call.in[1];
    const auto run = HWY_DYNAMIC_DISPATCH(few_rows);
    const int64_t wide = std::max<int64_t>(kSums / s.m / 64 * 64, 64);
    float *rows = reinterpret_cast<float*>(call.scratch) + team.rank * s.m * s.deep,
          *all = reinterpret_cast<float*>(call.scratch) + team.size * s.m * s.deep;
    draw(call, s.parts, [&](int64_t part) {
        const int64_t begin = part * s.deep, depth = std::min(s.deep, s.k - begin);
        float* sums = all + part * s.m * s.ld;
        std::memset(sums, 0, static_cast<size_t>(s.m * s.ld) * 4);
        for (int64_t i = 0; i < s.m; ++i) to_f32(address(a, i, begin), a.dtype, depth, rows + i * s.deep);
        for (int64_t first = 0; first < s.n; first += wide)
            run({rows, s.m, depth, s.deep, address(b, begin, first), b.dtype, b.row_stride, std::min(wide, s.n - first), sums + first,
                 s.ld},
                false);
    });
}

// ... then the sums of all parts.
void add_parts(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    float* all = reinterpret_cast<float*>(call.scratch) + team.size * s.m * s.deep;
    const auto mine = team.part(s.n, 64);
    for (int64_t first = mine.begin; first < mine.end; first += kColumns) {
        const int64_t n = std::min(kColumns, mine.end - first);
        for (int64_t part = 1; part < s.parts; ++part)
            for (int64_t i = 0; i < s.m; ++i) {
                float* to = all + i * s.ld + first;
                const float* from = all + (part * s.m + i) * s.ld + first;
                for (int64_t j = 0; j < n; ++j) to[j] += from[j];
            }
        finish_product(call, all + first, s.ld, 0, s.m, first, n);
    }
}

}  // namespace

void finish_product(const Call& call, float* sums, int64_t ld, int64_t row, int64_t m, int64_t first, int64_t n) {
    float extra[kBlock];
    for (const Tensor* more : {&call.in[2], &call.in[3]})
        for (int64_t i = 0; more->present && i < m; ++i) {
            if (more == &call.in[3] || i == 0) to_f32(address(*more, more == &call.in[3] ? row + i : 0, first), more->dtype, n, extra);
            for (int64_t j = 0; j < n; ++j) sums[i * ld + j] += extra[j];
        }
    for (int64_t i = 0; i < m; ++i) from_f32(sums + i * ld, n, call.out[0].dtype, address(call.out[0], row + i, first));
}

const char* matvec_declines(const Request& r) {
    if (r.attr<Matmul>().transpose_a || r.in[1].rank != 2) return "a is transposed, or b differs from row to row";
    if (r.out[0].rows() > kMatvecRows) return "too many rows";
    if (r.in[1].dtype == DType::f16) return "b is f16";
    return nullptr;
}

Result<Prepared> prepare_matvec(const Request& r) {
    level();
    auto state = std::make_shared<State>();
    state->m = r.out[0].rows(), state->n = r.out[0].columns(), state->k = r.in[0].columns();
    const int64_t size = float_size(r.in[1].dtype);
    if (!r.attr<Matmul>().transpose_b && state->n * size <= kNarrow && state->k >= 2 * kPartRows) {
        state->deep = padded(std::max(kPartRows, (state->k + kMostParts - 1) / kMostParts));
        state->parts = (state->k + state->deep - 1) / state->deep;
        state->ld = padded(state->n);
        const int64_t scratch = 4 * state->m * (r.threads * state->deep + state->parts * state->ld);
        return Prepared{{multiply_parts, add_parts}, std::move(state), scratch};
    }
    state->step = r.attr<Matmul>().transpose_b
                      ? std::clamp<int64_t>(kPartBytes / std::max<int64_t>(state->k * size, 1) / 64 * 64, 64, kColumns)
                      : kColumns;
    state->own = state->m * (padded(state->k) + state->step);
    const int64_t scratch = state->own * 4 * r.threads;
    return Prepared{{multiply}, std::move(state), scratch};
}

}  // namespace ds::cpu
#endif
