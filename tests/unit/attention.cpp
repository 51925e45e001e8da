// The CPU's attention and its gradient against the plain kernels, which finite differences check; at whatever level DSRT_CPU allows.
#include "ops/attrs.h"
#include "tests/support/run_kernel.h"

using namespace ds;
using namespace ds::test;

namespace {

struct Case {
    std::vector<int64_t> lengths;       // of sequences; packed, unless all are equal and `batched`
    int64_t heads = 2, kv_heads = 0, size = 8, window = 0, spare = 0;  // spare: rows after the last sequence
    bool causal = false, batched = false, rank4 = false, tokens = false, key_mask = false;
    double dropout = 0, scale = 0;
    DType type = DType::f32;
    int64_t gap = 0;
};

struct Data {
    Attention attrs;
    Array q, k, v, dy, segments, tokens, key_mask;
    int64_t rows = 0;
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
    if (!c.batched) {
        x.segments = Array(DType::i32, {n + 1});
        for (int64_t i = 0, at = 0; i <= n; at += i < n ? c.lengths[static_cast<size_t>(i)] : 0, ++i)
            x.segments.set(i, static_cast<double>(at));
    }
    if (c.tokens) {  // every sequence from 100 i on, with places left out
        x.tokens = Array(DType::i32, {x.rows});
        int64_t row = 0;
        for (int64_t i = 0; i < n; ++i)
            for (int64_t t = 100 * i, j = 0; j < c.lengths[static_cast<size_t>(i)]; ++j, t += 1 + static_cast<int64_t>(rng() % 2))
                x.tokens.set(row++, static_cast<double>(t));
    }
    if (c.key_mask) {
        x.key_mask = Array(DType::u8, {x.rows});
        for (int64_t i = 0; i < x.rows; ++i) x.key_mask.set(i, rng() % 3 ? 1 : 0);
    }
    return x;
}

struct Results { Array y, lse, dq, dk, dv; };

Results run(const KernelList& forward, const KernelList& backward, const Data& x, DType type, int64_t gap, int threads) {
    const Run how{.threads = threads, .runtime = {.seed = 42, .step = 3}};
    Results r{Array(type, x.q_dims, gap), Array(DType::f32, x.lse_dims), Array(type, x.q_dims, gap), Array(type, x.kv_dims, gap),
              Array(type, x.kv_dims, gap)};
    for (Array* a : {&r.y, &r.lse, &r.dq, &r.dk, &r.dv}) a->fill(NAN);
    run_kernel(forward, {&x.q, &x.k, &x.v, &x.segments, &x.tokens, &x.key_mask}, {&r.y, &r.lse}, &x.attrs, how);
    run_kernel(backward, {&x.dy, &x.q, &x.k, &x.v, &r.y, &r.lse, &x.segments, &x.tokens, &x.key_mask}, {&r.dq, &r.dk, &r.dv}, &x.attrs,
               how);
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
    for (int threads = 1; threads <= 3; ++threads) {
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

}  // namespace

TEST_CASE("attention/equals_the_plain_kernel_for_many_packed_sequences") {
    std::mt19937 rng(1);
    for (int i = 0; i < 60; ++i) {
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

TEST_CASE("attention/equals_the_plain_kernel_over_several_tiles") {
    std::mt19937 rng(2);
    for (const DType type : {DType::f32, DType::bf16})
        for (const bool causal : {false, true})
            for (const int64_t window : {0, 50}) {
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

TEST_CASE("attention/takes_batches_of_rank_3_and_4") {
    std::mt19937 rng(3);
    for (const bool rank4 : {false, true})
        for (const DType type : {DType::f32, DType::bf16, DType::f16})
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
