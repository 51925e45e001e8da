// sparse_matmul, three ways. For a few rows of a the weight is what takes time to read: words of 8 places become vectors, zeros in their
// places, and are multiplied with all rows. For many rows and few values each value is multiplied with a column of a, which was transposed
// for that. Else zeros are written out where the product needs them (decoded.h): no faster than a whole weight, but as small.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sparse_matmul.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/decoded.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/matvec.h"
#include "kernels/sparse.h"
#include "ops/attrs_coded.h"

namespace ds::cpu {
#ifndef DS_CPU_SPARSE
#define DS_CPU_SPARSE
inline constexpr int64_t kSparseRows = 64;  // of a that are multiplied at once where columns of a are

struct SparseProduct {
    const SparseWeight& weight;
    int64_t first, n;  // outputs
    const float* a;    // m rows of whole words, lda apart; or [inputs][kSparseRows]
    int64_t m, lda;
    float* y;  // m rows of n sums, ldy apart
    int64_t ldy;
};

// kPlaces[bits][i]: which of the values of 8 places, whose bits tell where they are, belongs to place i; negative: none.
struct Places {
    alignas(64) int8_t of[256][8];
    constexpr Places() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int i = 0, next = 0; i < 8; ++i) of[bits][i] = static_cast<int8_t>(bits >> i & 1 ? next++ : -1);
    }
};
inline constexpr Places kPlaces;
#endif
}  // namespace ds::cpu

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE float one(float x) { return x; }
HWY_INLINE float one(BF16 x) { return ds::to_f32(x); }

// f(place, value) for each bit of a word.
template <class T, class F>
HWY_INLINE void each_value(uint64_t word, const T*& values, const F& f) {
    for (; word; word &= word - 1) f(std::countr_zero(word), one(*values++));
}

constexpr int64_t kByte = 8;  // places that become a vector

#if HWY_TARGET <= HWY_AVX2
using D8 = hn::FixedTag<float, 8>;
using V8 = hn::Vec<D8>;
constexpr D8 d8;
HWY_INLINE V8 wide(const float* p) { return hn::LoadU(d8, p); }
HWY_INLINE V8 wide(const BF16* p) { return load_bf16(d8, p); }

// The next values in the places that bits tell. Reads 8 values.
template <class T>
HWY_INLINE V8 expand(uint64_t bits, const T* values) {
    const hn::RebindToSigned<D8> di8;
    const auto places = hn::PromoteTo(di8, hn::LoadU(hn::Rebind<int8_t, D8>(), kPlaces.of[bits]));
    const auto looked_up = hn::TableLookupLanes(wide(values), hn::IndicesFromVec(d8, hn::And(places, hn::Set(di8, 7))));
    return hn::IfNegativeThenElse(hn::BitCast(d8, places), hn::Zero(d8), looked_up);
}

template <int M, class T>
HWY_INLINE void dots(const SparseProduct& p, int64_t out, const float* a, float* y) {
    constexpr int kSums = M == 1 ? 4 : M == 2 ? 2 : 1;  // more than one hides the latency of additions
    constexpr int64_t kAhead = 512;                     // bytes: values lie one after the other
    const T* values = p.weight.values<T>(out);
    V8 sum[M][kSums];
    for (auto& row : sum)
        for (V8& s : row) s = hn::Zero(d8);
    for (int64_t w = 0; w < p.weight.parts().words; ++w, a += SparseParts::kWord) {
        uint64_t word = p.weight.word(out, w);
        __builtin_prefetch(reinterpret_cast<const char*>(values) + kAhead, 0, 2);
        for (int64_t i = 0; i < SparseParts::kWord; i += kByte, word >>= kByte) {
            const V8 weights = expand(word & 255, values);
            values += std::popcount(word & 255);
            for (int r = 0; r < M; ++r) {
                V8& s = sum[r][i / kByte % kSums];
                s = hn::MulAdd(weights, hn::LoadU(d8, a + r * p.lda + i), s);
            }
        }
    }
    for (int r = 0; r < M; ++r) {
        for (int k = 1; k < kSums; ++k) sum[r][0] = hn::Add(sum[r][0], sum[r][k]);
        y[r * p.ldy] = hn::GetLane(hn::SumOfLanes(d8, sum[r][0]));
    }
}

template <class T>
void write_word(uint64_t word, const T*& values, float* to) {
    for (int64_t i = 0; i < SparseParts::kWord; i += kByte, word >>= kByte) {
        hn::StoreU(expand(word & 255, values), d8, to + i);
        values += std::popcount(word & 255);
    }
}
#else
template <int M, class T>
void dots(const SparseProduct& p, int64_t out, const float* a, float* y) {
    const T* values = p.weight.values<T>(out);
    float sum[M] = {};
    for (int64_t w = 0; w < p.weight.parts().words; ++w, a += SparseParts::kWord)
        each_value(p.weight.word(out, w), values, [&](int i, float value) {
            for (int r = 0; r < M; ++r) sum[r] += value * a[r * p.lda + i];
        });
    for (int r = 0; r < M; ++r) y[r * p.ldy] = sum[r];
}

template <class T>
void write_word(uint64_t word, const T*& values, float* to) {
    std::fill_n(to, SparseParts::kWord, 0.0f);
    each_value(word, values, [&](int i, float value) { to[i] = value; });
}
#endif

template <class T>
void few_rows_of(const SparseProduct& p) {
    for (int64_t j = 0; j < p.n; ++j)
        for (int64_t i = 0; i < p.m;) {
            const float* a = p.a + i * p.lda;
            float* y = p.y + i * p.ldy + j;
            if (p.m - i >= 8) dots<8, T>(p, p.first + j, a, y), i += 8;
            else if (p.m - i >= 4) dots<4, T>(p, p.first + j, a, y), i += 4;
            else if (p.m - i >= 2) dots<2, T>(p, p.first + j, a, y), i += 2;
            else dots<1, T>(p, p.first + j, a, y), i += 1;
        }
}

// R: rows of a column.
template <int R, class T>
void by_columns(const SparseProduct& p) {
    const hn::CappedTag<float, R> dc;
    constexpr int kVectors = R / static_cast<int>(hn::MaxLanes(dc)), kSums = kVectors >= 4 ? 1 : 4 / kVectors;
    const int64_t words = p.weight.parts().words;
    for (int64_t j = 0; j < p.n; ++j) {
        const T* values = p.weight.values<T>(p.first + j);
        hn::Vec<decltype(dc)> sum[kSums][kVectors];
        for (auto& vectors : sum)
            for (auto& s : vectors) s = hn::Zero(dc);
        const float* a = p.a;
        const auto add = [&](int64_t w, auto& to) {
            each_value(p.weight.word(p.first + j, w), values, [&](int i, float value) {
                const auto by = hn::Set(dc, value);
                for (int u = 0; u < kVectors; ++u)
                    to[u] = hn::MulAdd(by, hn::Load(dc, a + (w * SparseParts::kWord + i) * R + u * hn::Lanes(dc)), to[u]);
            });
        };
        int64_t w = 0;
        for (; w + kSums <= words; w += kSums)
            for (int k = 0; k < kSums; ++k) add(w + k, sum[k]);
        for (; w < words; ++w) add(w, sum[0]);
        HWY_ALIGN float rows[R];
        for (int u = 0; u < kVectors; ++u) {
            for (int k = 1; k < kSums; ++k) sum[0][u] = hn::Add(sum[0][u], sum[k][u]);
            hn::Store(sum[0][u], dc, rows + u * hn::Lanes(dc));
        }
        for (int64_t r = 0; r < p.m; ++r) p.y[r * p.ldy + j] = rows[r];
    }
}

template <class T>
void columns_of(const SparseProduct& p) {
    if (p.lda == 8) by_columns<8, T>(p);
    else if (p.lda == 16) by_columns<16, T>(p);
    else if (p.lda == 32) by_columns<32, T>(p);
    else by_columns<kSparseRows, T>(p);
}

template <class T>
void write_output_of(const SparseWeight& weight, int64_t out, float* to) {
    const T* values = weight.values<T>(out);
    for (int64_t w = 0; w < weight.parts().words; ++w) write_word(weight.word(out, w), values, to + w * SparseParts::kWord);
}

}  // namespace

void few_sparse(const SparseProduct& p) { p.weight.parts().bits == 32 ? few_rows_of<float>(p) : few_rows_of<BF16>(p); }
void columns_sparse(const SparseProduct& p) { p.weight.parts().bits == 32 ? columns_of<float>(p) : columns_of<BF16>(p); }

// Of output `out` all inputs, filled up to whole words.
void write_sparse(const SparseWeight& weight, int64_t out, float* to) {
    weight.parts().bits == 32 ? write_output_of<float>(weight, out, to) : write_output_of<BF16>(weight, out, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace ds::cpu {
namespace {
HWY_EXPORT(few_sparse);
HWY_EXPORT(columns_sparse);
HWY_EXPORT(write_sparse);

SparseParts parts_of(const Tensor& a, const SparseMatmul& m) { return {m.outs, a.columns(), m.nonzeros, m.bits}; }

// Of a few rows, or of columns.
struct State {
    SparseParts parts;
    int64_t m = 0, n = 0, k = 0, wide = 0;  // wide: inputs, filled up
    int64_t rows = 0, step = 0;             // of a that are multiplied at once; outputs that a thread takes at a time
    int64_t ld = 0, own = 0;                // floats from one row of sums to the next, of a thread's scratch
};

State state_of(const Request& request, int64_t rows, int64_t step) {
    level();
    State s{.parts = parts_of(request.in[0], request.attr<SparseMatmul>())};
    s.m = request.out[0].rows(), s.n = request.out[0].columns(), s.k = request.in[0].columns();
    s.wide = s.parts.words * SparseParts::kWord;
    s.rows = rows, s.step = step;
    s.ld = step + 16;  // keeps rows from falling on the same cache sets
    s.own = padded(rows * (s.wide + s.ld) + kBlock);
    return s;
}

void multiply_few(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const SparseWeight weight(call.in[1].data, s.parts);
    float *rows = reinterpret_cast<float*>(call.scratch) + team.rank * s.own, *sums = rows + s.rows * s.wide;
    for (int64_t i = 0; i < s.m; ++i) {
        to_f32(address(call.in[0], i), call.in[0].dtype, s.k, rows + i * s.wide);
        std::fill(rows + i * s.wide + s.k, rows + (i + 1) * s.wide, 0.0f);
    }
    for (int64_t first = call.ticket->fetch_add(1) * s.step; first < s.n; first = call.ticket->fetch_add(1) * s.step) {
        const int64_t n = std::min(s.step, s.n - first);
        HWY_DYNAMIC_DISPATCH(few_sparse)({weight, first, n, rows, s.m, s.wide, sums, s.ld});
        finish_product(call, sums, s.ld, 0, s.m, first, n);
    }
}

void multiply_columns(const Call& call, Team team) {
    const State& s = *static_cast<const State*>(call.state);
    const SparseWeight weight(call.in[1].data, s.parts);
    float *columns = reinterpret_cast<float*>(call.scratch) + team.rank * s.own, *sums = columns + s.rows * s.wide,
          *row = sums + s.rows * s.ld;
    const int64_t across = (s.n + s.step - 1) / s.step, count = across * ((s.m + s.rows - 1) / s.rows);
    int64_t there = -1;
    for (int64_t i = call.ticket->fetch_add(1); i < count; i = call.ticket->fetch_add(1)) {
        const int64_t first_row = i / across * s.rows, rows = std::min(s.rows, s.m - first_row);
        if (there != first_row) {
            for (int64_t r = 0; r < s.rows; ++r)
                for (int64_t k = 0; k < s.k; k += kBlock) {
                    const int64_t n = std::min(kBlock, s.k - k);
                    if (r < rows) to_f32(address(call.in[0], first_row + r, k), call.in[0].dtype, n, row);
                    else std::fill_n(row, n, 0.0f);
                    for (int64_t j = 0; j < n; ++j) columns[(k + j) * s.rows + r] = row[j];
                }
            there = first_row;
        }
        const int64_t first = i % across * s.step, n = std::min(s.step, s.n - first);
        HWY_DYNAMIC_DISPATCH(columns_sparse)({weight, first, n, columns, rows, s.rows, sums, s.ld});
        finish_product(call, sums, s.ld, first_row, rows, first, n);
    }
}

struct Decoded {
    SparseParts parts;
    DecodedProduct product;
    int64_t own = 0;  // floats of a thread's row
};

void multiply_decoded(const Call& call, Team team) {
    const Decoded& s = *static_cast<const Decoded*>(call.state);
    const SparseWeight weight(call.in[1].data, s.parts);
    float* row = reinterpret_cast<float*>(call.scratch + s.product.scratch_bytes()) + team.rank * s.own;
    s.product.run(call, team, [&](int64_t out, int64_t, int64_t n, DType type, std::byte* to) {
        for (int64_t k = s.parts.ins; n > 0; n -= k, ++out, to += k * float_size(type)) {
            HWY_DYNAMIC_DISPATCH(write_sparse)(weight, out, row);
            from_f32(row, k, type, to);
        }
    });
}

// Where each way wins; tests/bench/README.md has what was measured.
constexpr int64_t kFewRows = 8, kVeryFewRows = 2;
constexpr double kMostOfFewRows = 0.1, kMost = 0.35;  // the share that is not zero, up to which columns win

double density(const Request& request) {
    const auto& m = request.attr<SparseMatmul>();
    return static_cast<double>(m.nonzeros) / std::max(static_cast<double>(m.outs * request.in[0].columns()), 1.0);
}

const char* declines_few(const Request& request) {
    const int64_t rows = request.out[0].rows();
    if (rows > kFewRows || (rows > kVeryFewRows && density(request) <= kMostOfFewRows)) return "columns are faster";
    return declines_product(request);
}
Result<Prepared> prepare_few(const Request& request) {
    auto s = std::make_shared<State>(state_of(request, request.out[0].rows(), 64));
    const int64_t scratch = 4 * s->own * request.threads;
    return Prepared{{multiply_few}, std::move(s), scratch};
}

const char* declines_columns(const Request& request) {
    double most = kMost;
    if (request.in[0].dtype != DType::f32) most *= level() >= Level::amx_bf16 ? 0 : level() >= Level::avx512_bf16 ? 0.5 : 1;
    return density(request) > most ? "too many values are not zero" : declines_product(request);
}
Result<Prepared> prepare_columns(const Request& request) {
    const auto rows = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(request.out[0].rows())));
    auto s = std::make_shared<State>(state_of(request, std::clamp<int64_t>(rows, 8, kSparseRows), 256));
    const int64_t scratch = 4 * s->own * request.threads;
    return Prepared{{multiply_columns}, std::move(s), scratch};
}

Result<Prepared> prepare_decoded(const Request& request) {
    level();
    auto s = std::make_shared<Decoded>(Decoded{parts_of(request.in[0], request.attr<SparseMatmul>()), DecodedProduct(request, true)});
    s->own = s->parts.words * SparseParts::kWord;
    const int64_t scratch = s->product.scratch_bytes() + 4 * s->own * request.threads;
    return Prepared{{multiply_decoded}, std::move(s), scratch};
}

constexpr KernelImpl kSparse[] = {{"few rows", declines_few, prepare_few},
                                  {"columns", declines_columns, prepare_columns},
                                  {"decoded", declines_product, prepare_decoded}};

}  // namespace

extern const KernelList sparse_matmul = kSparse;

}  // namespace ds::cpu
#endif
