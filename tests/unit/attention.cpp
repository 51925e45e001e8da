// The CPU's attention and its gradient against the plain kernels, which finite differences check; at whatever level DSRT_CPU allows.
#include <cstdlib>
#include <numeric>

#include "ops/attrs.h"
#include "ops/attrs_parallel.h"
#include "tests/support/run_kernel.h"

namespace ds::ref {
extern const KernelList attention_cached, attention_merge;
}
namespace ds::cpu {
extern const KernelList attention_cached;
}

using namespace ds;
using namespace ds::test;

namespace {

struct Case {
    std::vector<int64_t> lengths;    // of sequences; packed, unless all are equal and `batched`
    std::vector<int64_t> keys = {};  // of the sequences of keys, where those are other tokens; with `part` they are some of more
    bool part = false;
    int64_t heads = 2, kv_heads = 0, size = 8, window = 0, spare = 0;  // spare: rows after the last sequence
    bool causal = false, batched = false, rank4 = false, tokens = false, key_mask = false;
    double dropout = 0, scale = 0;
    DType type = DType::f32;
    int64_t gap = 0;
};

struct Data {
    Attention attrs;
    Array q, k, v, dy, segments, tokens, key_mask, key_segments, key_tokens, first_tokens;
    int64_t rows = 0, key_rows = 0;
    std::vector<int64_t> q_dims, kv_dims, lse_dims;
};

Data make(const Case& c, std::mt19937& rng) {
    Data x;
    x.attrs = {.heads = c.heads,
               .kv_heads = c.kv_heads,
               .causal = c.causal,
               .window = c.window,
               .scale = c.scale,
               .dropout = c.dropout,
               .salt = 7};
    for (const int64_t n : c.lengths) x.rows += n;
    x.rows += c.spare;
    const int64_t kv = c.kv_heads ? c.kv_heads : c.heads, n = static_cast<int64_t>(c.lengths.size());
    std::vector<int64_t> lead{x.rows};
    if (c.batched) lead = {n, c.lengths[0]};
    x.q_dims = x.kv_dims = x.lse_dims = lead;
    x.key_rows = x.rows;
    if (!c.keys.empty()) x.key_rows = x.kv_dims[0] = std::accumulate(c.keys.begin(), c.keys.end(), c.spare);
    x.lse_dims.push_back(c.heads);
    if (c.rank4) {
        x.q_dims.insert(x.q_dims.end(), {c.heads, c.size});
        x.kv_dims.insert(x.kv_dims.end(), {kv, c.size});
    } else {
        x.q_dims.push_back(c.heads * c.size);
        x.kv_dims.push_back(kv * c.size);
    }
    x.q = Array::random(c.type, x.q_dims, rng, 1, c.gap);
    x.k = Array::random(c.type, x.kv_dims, rng, 1, c.gap);
    x.v = Array::random(c.type, x.kv_dims, rng, 1, c.gap);
    x.dy = Array::random(c.type, x.q_dims, rng, 1, c.gap);
    const auto ends = [n](const std::vector<int64_t>& list) {
        Array a(DType::i32, {n + 1});
        for (int64_t i = 0, at = 0; i <= n; at += i < n ? list[static_cast<size_t>(i)] : 0, ++i) a.set(i, static_cast<double>(at));
        return a;
    };
    const auto places = [n, &rng](const std::vector<int64_t>& list, int64_t rows) {  // every sequence from 100 i on, with places left out
        Array a(DType::i32, {rows});
        int64_t row = 0;
        for (int64_t i = 0; i < n; ++i)
            for (int64_t t = 100 * i, j = 0; j < list[static_cast<size_t>(i)]; ++j, t += 1 + static_cast<int64_t>(rng() % 2))
                a.set(row++, static_cast<double>(t));
        return a;
    };
    if (!c.batched) x.segments = ends(c.lengths);
    if (c.tokens) x.tokens = places(c.lengths, x.rows);
    if (!c.keys.empty()) {
        x.key_segments = ends(c.keys);
        if (c.tokens) x.key_tokens = places(c.keys, x.key_rows);
        if (c.part) {
            x.first_tokens = Array(DType::i32, {n});
            for (int64_t i = 0; i < n; ++i) x.first_tokens.set(i, static_cast<double>(100 * i - 3));
        }
    }
    if (c.key_mask) {
        x.key_mask = Array(DType::u8, {x.key_rows});
        for (int64_t i = 0; i < x.key_rows; ++i) x.key_mask.set(i, rng() % 3 ? 1 : 0);
    }
    return x;
}

struct Results {
    Array y, lse, dq, dk, dv;
};

Results run(const KernelList& forward, const KernelList& backward, const Data& x, DType type, int64_t gap, int threads) {
    const Run how{.threads = threads, .runtime = {.seed = 42, .step = 3}};
    if (x.first_tokens.tensor().present) type = DType::f32;
    Results r{Array(type, x.q_dims, gap), Array(DType::f32, x.lse_dims), Array(type, x.q_dims, gap), Array(type, x.kv_dims, gap),
              Array(type, x.kv_dims, gap)};
    for (Array* a : {&r.y, &r.lse, &r.dq, &r.dk, &r.dv}) a->fill(NAN);
    const Array no;  // bias and layout have cases in tests/ops/attention.ir
    run_kernel(forward, {&x.q, &x.k, &x.v, &x.segments, &x.tokens, &x.key_mask, &x.key_segments, &x.key_tokens, &x.first_tokens, &no, &no},
               {&r.y, &r.lse}, &x.attrs, how);
    for (int64_t i = 0; i < r.lse.count(); ++i)  // a part's queries that see nothing: as in the merged result
        if (r.lse.get(i) == -INFINITY) r.lse.set(i, 0);
    run_kernel(backward,
               {&x.dy, &x.q, &x.k, &x.v, &r.y, &r.lse, &x.segments, &x.tokens, &x.key_mask, &x.key_segments, &x.key_tokens, &x.first_tokens,
                &no, &no},
               {&r.dq, &r.dk, &r.dv}, &x.attrs, how);
    return r;
}

void check(const Case& c, std::mt19937& rng) {
    std::string lengths;
    for (const int64_t n : c.lengths) lengths += std::to_string(n) + " ";
    CAPTURE(lengths);
    CAPTURE(c.heads);
    CAPTURE(c.kv_heads);
    CAPTURE(c.size);
    CAPTURE(c.window);
    CAPTURE(c.causal);
    CAPTURE(c.batched);
    CAPTURE(c.tokens);
    CAPTURE(c.key_mask);
    CAPTURE(c.dropout);
    CAPTURE(std::string(name_of(c.type)));
    const Data x = make(c, rng);
    const Results expected = run(ref::attention, ref::attention_grad, x, c.type, 0, 1);
    const double tolerance = c.type == DType::f32 ? 5e-6 : c.type == DType::f16 ? 3e-3 : 2e-2;
    Results first;
    for (int threads = 1; threads <= kTeams; ++threads) {
        const Results r = run(cpu::attention, cpu::attention_grad, x, c.type, c.gap, threads);
        CHECK(error(r.y, expected.y, 0.1) < tolerance);
        CHECK(error(r.lse, expected.lse, 0.1) < (c.type == DType::f32 ? 5e-6 : 1e-5));
        CHECK(error(r.dq, expected.dq, 0.5) < tolerance);
        CHECK(error(r.dk, expected.dk, 0.5) < tolerance);
        CHECK(error(r.dv, expected.dv, 0.5) < tolerance);
        if (threads == 1) {
            first = r;
            continue;
        }
        CHECK(bit_equal(r.y, first.y));
        CHECK(bit_equal(r.dq, first.dq));
        CHECK(bit_equal(r.dk, first.dk));
        CHECK(bit_equal(r.dv, first.dv));
    }
}

// The double of a device (tests/cuda) takes milliseconds for a tile.
bool thorough() {
    const char* full = std::getenv("DSRT_FULL");
    return kTeams > 1 || (full && *full == '1');
}

}  // namespace

TEST_CASE("attention/equals_the_plain_kernel_for_many_packed_sequences") {
    std::mt19937 rng(1);
    for (int i = 0; i < (thorough() ? 60 : 10); ++i) {
        Case c;
        const int64_t sizes[] = {1, 3, 8, 16, 20, 32, 64, 80}, heads[] = {1, 2, 4, 6};
        for (uint64_t n = 1 + rng() % 6; n > 0; --n) c.lengths.push_back(static_cast<int64_t>(rng() % 40));
        c.size = sizes[rng() % 8], c.heads = heads[rng() % 4], c.kv_heads = c.heads % 2 == 0 && rng() % 2 ? c.heads / 2 : 0;
        c.causal = rng() % 2, c.window = rng() % 3 ? 0 : 1 + static_cast<int64_t>(rng() % 12), c.tokens = rng() % 2,
        c.key_mask = rng() % 3 == 0;
        c.dropout = rng() % 3 ? 0 : 0.3, c.scale = rng() % 4 ? 0 : 0.4, c.spare = static_cast<int64_t>(rng() % 5),
        c.gap = static_cast<int64_t>(rng() % 5);
        c.type = std::array{DType::f32, DType::bf16, DType::f16}[rng() % 3];
        check(c, rng);
    }
}

TEST_CASE("attention/rows_that_fall_on_the_same_sets_of_a_cache") {
    std::mt19937 rng(5);
    check({.lengths = {70}, .heads = 8, .size = 64, .causal = true}, rng);
    check({.lengths = {70}, .heads = 16, .size = 64, .causal = true, .type = DType::bf16}, rng);
}

TEST_CASE("attention/equals_the_plain_kernel_over_several_tiles") {
    std::mt19937 rng(2);
    for (const DType type : {DType::f32, DType::bf16})
        for (const bool causal : {false, true})
            for (const int64_t window : {0, 50}) {
                if (!thorough() && (causal != (type == DType::bf16) || window != 50)) continue;
                check({.lengths = {200, 65, 130},
                       .heads = 2,
                       .kv_heads = 1,
                       .size = 12,
                       .window = window,
                       .spare = 3,
                       .causal = causal,
                       .type = type},
                      rng);
                check({.lengths = {300},
                       .heads = 1,
                       .size = 4,
                       .window = window,
                       .causal = causal,
                       .key_mask = true,
                       .dropout = 0.2,
                       .type = type},
                      rng);
            }
}

#ifndef DS_TEST_DEVICE  // declined there
TEST_CASE("attention/looks_at_keys_of_other_tokens") {
    std::mt19937 rng(17);
    for (const DType type : {DType::f32, DType::bf16}) {
        check({.lengths = {5, 0, 9}, .keys = {11, 4, 0}, .type = type}, rng);
        check({.lengths = {5, 7, 9}, .keys = {11, 4, 1}, .kv_heads = 1, .spare = 3, .key_mask = true, .dropout = 0.2, .type = type}, rng);
        check({.lengths = {5, 7, 9}, .keys = {11, 4, 1}, .part = true, .tokens = true, .key_mask = true, .type = type}, rng);
        check({.lengths = {50, 7, 90}, .keys = {80, 0, 61}, .part = true, .spare = 2, .causal = true, .tokens = true, .type = type}, rng);
        check({.lengths = {70, 33},
               .keys = {40, 90},
               .part = true,
               .window = 20,
               .causal = true,
               .tokens = true,
               .dropout = 0.3,
               .type = type},
              rng);
    }
}

TEST_CASE("attention/merges_from_parts_of_the_keys") {
    std::mt19937 rng(19);
    const Array no;
    for (const bool cpu_kernels : {false, true}) {
        const Case c{.lengths = {40, 3, 71}, .spare = 2, .causal = true, .tokens = true, .dropout = 0.2};
        const Data x = make(c, rng);
        const KernelList &forward = cpu_kernels ? cpu::attention : ref::attention,
                         &backward = cpu_kernels ? cpu::attention_grad : ref::attention_grad;
        const Results whole = run(forward, backward, x, c.type, 0, 1);
        std::vector<double> most(static_cast<size_t>(whole.lse.count()), 0.0), y(static_cast<size_t>(whole.y.count()), 0.0), dq = y, dk = y,
                                                                                                                             dv = y;
        for (int64_t part = 0; part < 2; ++part) {  // every other token of the stream
            Data p = x;
            const int64_t columns = x.k.tensor().columns(), rows = (x.rows - part + 1) / 2;
            p.k = Array(DType::f32, {rows, columns}), p.v = p.k, p.key_tokens = Array(DType::i32, {rows}), p.key_segments = x.segments;
            p.kv_dims = {rows, columns};
            p.first_tokens = Array(DType::i32, {3});
            for (int64_t s = 0; s < 3; ++s) p.first_tokens.set(s, x.tokens.get(static_cast<int64_t>(x.segments.get(s))));
            for (int64_t s = 0; s < 4; ++s)
                p.key_segments.set(s, static_cast<double>((static_cast<int64_t>(x.segments.get(s)) - part + 1) / 2));
            for (int64_t i = 0; i < rows; ++i) p.key_tokens.set(i, x.tokens.get(2 * i + part));
            for (int64_t i = 0; i < rows * columns; ++i) {
                const int64_t from = (2 * (i / columns) + part) * columns + i % columns;
                p.k.set(i, x.k.get(from)), p.v.set(i, x.v.get(from));
            }
            const Run how{.runtime = {.seed = 42, .step = 3}};
            Array part_y(DType::f32, x.q_dims), part_lse(DType::f32, x.lse_dims), part_dq(DType::f32, x.q_dims),
                part_dk(DType::f32, p.kv_dims), part_dv(DType::f32, p.kv_dims);
            run_kernel(forward,
                       {&p.q, &p.k, &p.v, &p.segments, &p.tokens, &p.key_mask, &p.key_segments, &p.key_tokens, &p.first_tokens, &no, &no},
                       {&part_y, &part_lse}, &p.attrs, how);
            run_kernel(backward,
                       {&p.dy, &p.q, &p.k, &p.v, &whole.y, &whole.lse, &p.segments, &p.tokens, &p.key_mask, &p.key_segments, &p.key_tokens,
                        &p.first_tokens, &no, &no},
                       {&part_dq, &part_dk, &part_dv}, &p.attrs, how);
            for (int64_t i = 0; i < part_y.count(); ++i) {
                const int64_t row = i / x.q.tensor().columns(), head = i % x.q.tensor().columns() / c.size;
                y[static_cast<size_t>(i)] +=
                    part_y.get(i) * std::exp(part_lse.get(row * c.heads + head) - whole.lse.get(row * c.heads + head));
                dq[static_cast<size_t>(i)] += part_dq.get(i);
            }
            for (int64_t i = 0; i < rows * columns; ++i) {
                const auto to = static_cast<size_t>((2 * (i / columns) + part) * columns + i % columns);
                dk[to] = part_dk.get(i), dv[to] = part_dv.get(i);
            }
        }
        double off = 0;
        for (int64_t i = 0; i < whole.y.count(); ++i) {
            const auto at = static_cast<size_t>(i);
            for (const auto& [found, wanted] :
                 {std::pair(y[at], whole.y.get(i)), {dq[at], whole.dq.get(i)}, {dk[at], whole.dk.get(i)}, {dv[at], whole.dv.get(i)}})
                off = std::max(off, std::fabs(found - wanted));
        }
        CHECK(off < 2e-5);
    }
}
#endif

TEST_CASE("attention/takes_batches_of_rank_3_and_4") {
    std::mt19937 rng(3);
    for (const bool rank4 : {false, true})
        for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
            if (!thorough() && rank4 == (type == DType::f32)) continue;
            check({.lengths = {70, 70, 70},
                   .heads = 4,
                   .kv_heads = 2,
                   .size = 20,
                   .causal = rank4,
                   .batched = true,
                   .rank4 = rank4,
                   .type = type,
                   .gap = rank4 ? 4 : 0},
                  rng);
        }
}

TEST_CASE("attention/of_a_query_that_sees_nothing_is_zero") {
    std::mt19937 rng(4);
    Case c{.lengths = {5}, .causal = true};
    Data x = make(c, rng);
    x.key_mask = Array::of(DType::u8, {5}, {0, 0, 1, 0, 1});
    const Results r = run(cpu::attention, cpu::attention_grad, x, c.type, 0, 1);
    for (int64_t i = 0; i < 2 * 16; ++i) {
        CHECK(r.y.get(i) == 0);
        CHECK(r.dq.get(i) == 0);
    }
    CHECK(r.lse.get(0) == 0);
}

TEST_CASE("attention/a_nan_goes_on_as_one") {
    std::mt19937 rng(6);
    const auto is_nan = [](const Array& a, int64_t row, int64_t columns) {
        int64_t n = 0;
        for (int64_t i = 0; i < columns; ++i) n += std::isnan(a.get(row * columns + i));
        return n == columns ? 1 : n == 0 ? 0 : -1;
    };
#ifdef DS_TEST_DEVICE
    const std::vector<const KernelList*> whole = {&cpu::attention, &ref::attention};
#else
    const std::vector<const KernelList*> whole = {&ref::attention};  // the CPU's exponentials take a NaN for very little
#endif
    for (const DType type : {DType::f32, DType::bf16}) {
        CAPTURE(std::string(name_of(type)));
        Case c{.lengths = {8}, .heads = 1, .size = 32, .causal = true, .type = type};
        Data x = make(c, rng);
        for (int64_t i = 0; i < x.q.count(); ++i) x.q.set(i, 0.1);
        x.q.set(3 * 32, NAN);
        x.k.set(5 * 32, INFINITY);
        for (const KernelList* list : whole) {
            const Results r = run(*list, ref::attention_grad, x, type, 0, 1);
            for (int64_t row = 0; row < 8; ++row) {
                CAPTURE(row);
                CHECK(is_nan(r.y, row, 32) == (row == 3 || row >= 5));
                CHECK(std::isnan(r.lse.get(row)) == (row == 3 || row >= 5));
            }
        }
    }
    const Attention attrs{.heads = 1, .causal = true};
    Array q = Array::random(DType::f32, {2, 4}, rng), keys = Array::random(DType::f32, {1, 3, 4}, rng);
    q.set(0, NAN);
    const Array none, table = Array::of(DType::i32, {1, 3}, {0, 1, 2}), lengths = Array::of(DType::i32, {1}, {3}),
                      segments = Array::of(DType::i32, {2}, {0, 2});
#ifdef DS_TEST_DEVICE
    const KernelList cached = on_device("attention_cached"), merges = on_device("attention_merge");
#else
    const KernelList &cached = cpu::attention_cached, &merges = ref::attention_merge;
#endif
    for (const auto* list : {&cached, &ref::attention_cached}) {
        Array y(DType::f32, {2, 4});
        run_kernel(*list, {&q, &none, &none, &keys, &keys, &table, &lengths, &segments, &none, &none}, {&y}, &attrs, {});
        CHECK(is_nan(y, 0, 4) == 1);
        CHECK(is_nan(y, 1, 4) == 0);
    }
    // One part of a ring's.
    const Merge merge{.last = true};
    const Array part = Array::of(DType::f32, {1, 2}, {NAN, NAN}), lse = Array::of(DType::f32, {1, 1}, {NAN}),
                unseen = Array::of(DType::f32, {1, 1}, {-INFINITY});
    for (const bool first : {true, false}) {
        Array y(DType::f32, {1, 2}), merged(DType::f32, {1, 1});
        run_kernel(merges, {&part, first ? &lse : &unseen, &part, first ? &unseen : &lse}, {&y, &merged}, &merge, {});
        CHECK(is_nan(y, 0, 2) == 1);
        CHECK(is_nan(merged, 0, 1) == 1);
    }
}

TEST_CASE("attention/plain_gradient_agrees_with_finite_differences") {
    std::mt19937 rng(5);
    for (const double dropout : {0.0, 0.4}) {
        Case c{.lengths = {4, 3}, .heads = 2, .kv_heads = 1, .size = 3, .causal = dropout == 0, .tokens = true, .dropout = dropout};
        Data x = make(c, rng);
        const Results r = run(ref::attention, ref::attention_grad, x, c.type, 0, 1);
        const auto loss = [&] {
            const Results now = run(ref::attention, ref::attention_grad, x, c.type, 0, 1);
            double total = 0;
            for (int64_t i = 0; i < now.y.count(); ++i) total += now.y.get(i) * x.dy.get(i);
            return total;
        };
        const std::pair<Array*, const Array*> pairs[] = {{&x.q, &r.dq}, {&x.k, &r.dk}, {&x.v, &r.dv}};
        for (const auto& [input, gradient] : pairs)
            for (int64_t i = 0; i < input->count(); ++i) {
                const double at = input->get(i), step = 0.01;
                input->set(i, at + step);
                const double up = loss();
                input->set(i, at - step);
                const double down = loss();
                input->set(i, at);
                CHECK(gradient->get(i) == doctest::Approx((up - down) / (2 * step)).epsilon(2e-3).scale(1));
            }
    }
}
