// The CPU's matmul and cross-entropies against the plain kernels, at whatever level DSRT_CPU allows, with teams of 1 to 3.
#include <array>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"
#include "ops/attrs.h"
#include "tests/support/run_kernel.h"

using namespace ds;
using namespace ds::test;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

double tolerance(DType type) { return type == DType::f32 ? 2e-6 : type == DType::f16 ? 1e-3 : 8e-3; }

struct Case {
    std::vector<int64_t> batch;
    int64_t m, n, k;
    bool transpose_a = false, transpose_b = false, shared_b = true, bias = false, into = false, in_place = false;
    DType a = DType::f32, b = DType::f32, y = DType::f32, extra = DType::f32;
    int64_t gap = 0;
};

std::vector<int64_t> shape(std::vector<int64_t> batch, int64_t rows, int64_t columns) {
    batch.push_back(rows);
    batch.push_back(columns);
    return batch;
}

void check(const Case& c, std::mt19937& rng) {
    CAPTURE(c.m);
    CAPTURE(c.n);
    CAPTURE(c.k);
    CAPTURE(c.transpose_a);
    CAPTURE(c.transpose_b);
    CAPTURE(std::string(name_of(c.a)) + " " + std::string(name_of(c.b)) + " " + std::string(name_of(c.y)));
    const Matmul attrs{.transpose_a = c.transpose_a, .transpose_b = c.transpose_b};
    const auto a = Array::random(c.a, c.transpose_a ? shape(c.batch, c.k, c.m) : shape(c.batch, c.m, c.k), rng, 1, c.gap);
    const auto b_batch = c.shared_b ? std::vector<int64_t>{} : c.batch;
    const auto b = Array::random(c.b, c.transpose_b ? shape(b_batch, c.n, c.k) : shape(b_batch, c.k, c.n), rng, 1, c.gap);
    const auto bias = c.bias ? Array::random(c.extra, {c.n}, rng) : Array();
    auto into = c.into ? Array::random(c.in_place ? c.y : c.extra, shape(c.batch, c.m, c.n), rng, 1, c.gap) : Array();
    Array expected(c.y, shape(c.batch, c.m, c.n));
    run_kernel(ref::matmul, {&a, &b, &bias, &into}, {&expected}, &attrs);
    Array first;
    for (int threads = 1; threads <= 3; ++threads) {
        Array y(c.y, shape(c.batch, c.m, c.n), c.gap);
        if (c.in_place) {
            y = into;
            run_kernel(cpu::matmul, {&a, &b, &bias, &y}, {&y}, &attrs, {.threads = threads});
        } else {
            y.fill(NAN);
            run_kernel(cpu::matmul, {&a, &b, &bias, &into}, {&y}, &attrs, {.threads = threads});
        }
        CHECK(error(y, expected, 1e-3) < tolerance(c.y));
        if (threads == 1) first = y;
        else CHECK(bit_equal(y, first));
    }
}

}  // namespace

TEST_CASE("matmul/equals_the_plain_product_for_awkward_shapes") {
    std::mt19937 rng(1);
    const int64_t sizes[] = {1, 2, 3, 5, 8, 12, 13, 16, 17, 31, 33, 48, 65, 100};
    const auto any = [&] { return sizes[rng() % std::size(sizes)]; };
    for (int i = 0; i < 300; ++i) {
        Case c{{}, any(), any(), any()};
        c.transpose_a = rng() % 2, c.transpose_b = rng() % 2, c.bias = rng() % 2, c.into = rng() % 2, c.in_place = c.into && rng() % 2;
        c.a = kFloats[rng() % 3], c.b = kFloats[rng() % 3], c.y = kFloats[rng() % 3], c.extra = kFloats[rng() % 3];
        c.gap = rng() % 2 ? static_cast<int64_t>(rng() % 9) : 0;
        check(c, rng);
    }
}

TEST_CASE("matmul/sums_over_many_blocks_of_k") {
    std::mt19937 rng(2);
    for (const int64_t k : {401, 799, 2500, 9700, 10001})
        for (const DType type : kFloats)
            for (const bool out_f32 : {false, true}) {
                Case c{{}, 15, 40, k, k % 2 == 0, k % 3 == 0};
                c.a = c.b = type, c.y = out_f32 ? DType::f32 : type, c.bias = true, c.into = true, c.in_place = out_f32;
                check(c, rng);
            }
}

TEST_CASE("matmul/splits_many_rows_and_columns_into_blocks") {
    std::mt19937 rng(3);
    for (const DType type : {DType::f32, DType::bf16}) {
        Case tall{{}, 1700, 7, 9};
        tall.a = tall.b = tall.y = type, tall.bias = true;
        check(tall, rng);
        Case wide{{}, 9, 4500, 11, true, true};
        wide.a = wide.b = type, wide.into = wide.in_place = true;
        check(wide, rng);
        Case both{{}, 70, 300, 900, false, true};
        both.a = both.b = both.y = type;
        check(both, rng);
    }
    // More rows than one block of AMX's a has, columns beyond its groups, sums that grow in c and sums that don't.
    Case tiles{{}, 390, 140, 2500, true, false};
    tiles.a = tiles.b = DType::bf16, tiles.into = tiles.in_place = true;
    check(tiles, rng);
    tiles.transpose_a = false, tiles.transpose_b = true, tiles.y = DType::bf16, tiles.bias = true;
    check(tiles, rng);
    // Rows that are read as they lie and such as are packed, over one block of k and over two.
    for (const int64_t k : {512, 700, 1536, 1500})
        for (const DType type : {DType::f32, DType::f16}) {
            Case rows{{}, 29, 333, k, false, true};
            rows.y = type, rows.bias = true;
            check(rows, rng);
        }
    // Gradients of weights that are stored past the caches, with sums over one and over several blocks of k.
    for (const int64_t k : {40, 96, 700}) {
        Case gradient{{}, 528, 544, k, true};
        gradient.a = gradient.b = DType::bf16;
        check(gradient, rng);
    }
}

// A few rows, as generation has them: b in parts of its rows, in columns, and transposed.
TEST_CASE("matmul/few_rows_take_b_in_parts") {
    std::mt19937 rng(6);
    for (const int64_t m : {1, 2, 4, 7})
        for (const int64_t k : {191, 192, 650, 2000})
            for (const bool transposed : {false, true}) {
                Case c{{}, m, 70 + k % 100, k, false, transposed};
                c.a = c.b = c.y = k % 2 ? DType::f32 : DType::bf16, c.bias = true, c.into = m % 2 == 0, c.gap = m;
                check(c, rng);
            }
    Case wide{{}, 3, 4200, 200};  // rows of b too long for parts
    wide.bias = true;
    check(wide, rng);
}

namespace {

struct Pair {  // a weight that stands for what it is rounded to, and that copy
    Array weight, copy;
    Pair(std::vector<int64_t> dims, std::mt19937& rng) : weight(Array::random(DType::f32, dims, rng)), copy(DType::bf16, dims) {
        for (int64_t i = 0; i < weight.count(); ++i) copy.set(i, weight.get(i));
        weight.stand_for(DType::bf16);
    }
};

}  // namespace

TEST_CASE("matmul/rounds_a_weight_to_its_copy_in_bf16") {
    if (!cpu::has_bf16_tiles()) {
        MESSAGE("skipped: there are no tiles of bf16 here");
        return;
    }
    std::mt19937 rng(10);
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{9, 16, 32}, {33, 65, 47}, {70, 300, 900}, {140, 513, 2500}})
        for (const bool transposed : {false, true}) {
            CAPTURE(n);
            CAPTURE(transposed);
            const Matmul attrs{.transpose_b = transposed};
            const Pair b(transposed ? std::vector{n, k} : std::vector{k, n}, rng);
            const auto a = Array::random(DType::bf16, {m, k}, rng);
            const Array none;
            Array y(DType::bf16, {m, n}), expected(DType::bf16, {m, n});
            run_kernel(cpu::matmul, {&a, &b.copy, &none, &none}, {&expected}, &attrs, {.threads = 2});
            run_kernel(cpu::matmul, {&a, &b.weight, &none, &none}, {&y}, &attrs, {.threads = 2});
            CHECK(bit_equal(y, expected));
        }
}

#ifdef __x86_64__
// The packing beside AMX's tiles needs none of them.
TEST_CASE("amx/packs_as_ahead_of_time_and_rounds_weights") {
    if (!cpu::has_bf16_tiles()) {
        MESSAGE("skipped: it takes instructions for bf16");
        return;
    }
    std::mt19937 rng(11);
    for (const auto& [k, n] : {std::array<int64_t, 2>{32, 32}, {64, 96}, {70, 45}, {5, 131}})
        for (const bool k_major : {false, true}) {
            CAPTURE(k);
            CAPTURE(n);
            CAPTURE(k_major);
            const Pair b(k_major ? std::vector{k, n} : std::vector{n, k}, rng);
            const int64_t panel = cpu::amx::panel_size(k), stride = k_major ? n : k;
            std::vector<BF16> expected(static_cast<size_t>(panel * cpu::amx::panels(n)), BF16{0x7fc0});
            cpu::detail::pack512_amx_b(DType::bf16, b.copy.tensor().data, stride, k_major, k, n, reinterpret_cast<float*>(expected.data()),
                                       cpu::amx::kPanel, panel / 2);
            for (const Array* from : {&b.copy, &b.weight}) {
                std::vector<BF16> packed(expected.size(), BF16{0x7fc0});
                const Tensor t = from->tensor();
                cpu::amx::Packer({t.as<std::byte>(), stride, k_major, k, n, t.dtype}, packed.data(), panel, 0, 1).rest();
                CHECK(std::memcmp(packed.data(), expected.data(), packed.size() * sizeof(BF16)) == 0);
            }
        }
}
#endif

TEST_CASE("matmul/multiplies_batches_with_and_without_a_shared_b") {
    std::mt19937 rng(4);
    for (int i = 0; i < 24; ++i) {
        Case c{i % 3 ? std::vector<int64_t>{2, 3} : std::vector<int64_t>{17}, 5, 19, 7};
        c.shared_b = i % 2, c.transpose_a = !c.shared_b && i % 4 == 0, c.transpose_b = i % 5 < 2, c.bias = i % 3 == 1, c.into = i % 4 > 1;
        c.a = c.b = c.y = kFloats[i % 3], c.gap = i % 7;
        check(c, rng);
    }
}

TEST_CASE("matmul/without_terms_is_bias_and_into") {
    std::mt19937 rng(5);
    for (const DType type : kFloats) {
        Case c{{}, 3, 5, 0};
        c.y = type, c.bias = c.into = true;
        check(c, rng);
        c.bias = c.into = false;
        check(c, rng);
    }
}

namespace {

void check_cross_entropy(int64_t rows, int64_t vocabulary, DType type, int ignored, std::mt19937& rng) {
    CAPTURE(rows);
    CAPTURE(vocabulary);
    CAPTURE(std::string(name_of(type)));
    const CrossEntropy attrs{.ignore = -100};
    const auto logits = Array::random(type, {rows, vocabulary}, rng, 3, static_cast<int64_t>(rng() % 5));
    Array labels(DType::i32, {rows});
    for (int64_t i = 0; i < rows; ++i)
        labels.set(i, static_cast<int>(rng() % 10) < ignored ? -100 : static_cast<double>(rng() % static_cast<uint64_t>(vocabulary)));
    const auto dloss = Array::of(DType::f32, {}, {0.7});
    Array loss(DType::f32, {}), lse(DType::f32, {rows}), dlogits(type, {rows, vocabulary});
    run_kernel(ref::cross_entropy, {&logits, &labels}, {&loss, &lse}, &attrs);
    run_kernel(ref::cross_entropy_grad, {&dloss, &logits, &labels, &lse}, {&dlogits}, &attrs);
    for (int threads = 1; threads <= 3; ++threads) {
        Array loss2(DType::f32, {}), lse2(DType::f32, {rows}), dlogits2(type, {rows, vocabulary}, 3);
        run_kernel(cpu::cross_entropy, {&logits, &labels}, {&loss2, &lse2}, &attrs, {.threads = threads});
        CHECK(error(loss2, loss, 0.05) < 2e-6);
        CHECK(error(lse2, lse, 1e-3) < 2e-6);
        run_kernel(cpu::cross_entropy_grad, {&dloss, &logits, &labels, &lse2}, {&dlogits2}, &attrs, {.threads = threads});
        CHECK(error(dlogits2, dlogits, 1e-6) < tolerance(type));
    }
}

struct Linear {
    int64_t rows, size, vocabulary;
    DType x, weight;
    bool bias = false, into = false, in_place = false;
    int ignored = 2;
};

void check_linear(const Linear& c, std::mt19937& rng) {
    CAPTURE(c.rows);
    CAPTURE(c.size);
    CAPTURE(c.vocabulary);
    CAPTURE(std::string(name_of(c.x)) + " " + std::string(name_of(c.weight)));
    const CrossEntropy attrs{.ignore = -1};
    const int64_t gap = static_cast<int64_t>(rng() % 4);
    const auto x = Array::random(c.x, {c.rows, c.size}, rng, 1, gap),
               weight = Array::random(c.weight, {c.vocabulary, c.size}, rng, 1 / std::sqrt(c.size));
    const auto bias = c.bias ? Array::random(c.weight, {c.vocabulary}, rng) : Array();
    const auto dweight_into = c.into ? Array::random(DType::f32, {c.vocabulary, c.size}, rng, 0.01) : Array();
    const auto dbias_into = c.into && c.bias ? Array::random(DType::f32, {c.vocabulary}, rng, 0.01) : Array();
    Array labels(DType::i32, {c.rows});
    for (int64_t i = 0; i < c.rows; ++i)
        labels.set(i, static_cast<int>(rng() % 10) < c.ignored ? -1 : static_cast<double>(rng() % static_cast<uint64_t>(c.vocabulary)));
    const auto dloss = Array::of(DType::f32, {}, {1.3});

    Array loss(DType::f32, {}), lse(DType::f32, {c.rows}), dx(c.x, {c.rows, c.size}), dweight(DType::f32, {c.vocabulary, c.size});
    Array dbias = c.bias ? Array(DType::f32, {c.vocabulary}) : Array();
    run_kernel(ref::linear_cross_entropy, {&x, &weight, &bias, &labels}, {&loss, &lse}, &attrs);
    run_kernel(ref::linear_cross_entropy_grad, {&dloss, &x, &weight, &bias, &labels, &lse, &dweight_into, &dbias_into},
               {&dx, &dweight, &dbias}, &attrs);
    const bool low = c.x == DType::bf16 && c.weight == DType::bf16;  // dlogits are rounded to bf16
    Array first[4];
    for (int threads = 1; threads <= 3; ++threads) {
        Array loss2(DType::f32, {}), lse2(DType::f32, {c.rows}), dx2(c.x, {c.rows, c.size}, gap),
            dweight2(DType::f32, {c.vocabulary, c.size});
        Array dbias2 = c.bias ? Array(DType::f32, {c.vocabulary}) : Array();
        run_kernel(cpu::linear_cross_entropy, {&x, &weight, &bias, &labels}, {&loss2, &lse2}, &attrs, {.threads = threads});
        CHECK(error(loss2, loss, 0.05) < 3e-6);
        CHECK(error(lse2, lse, 1e-3) < 3e-6);
        const Array *into = &dweight_into, *bias_into = &dbias_into;
        if (c.in_place && c.into) {
            dweight2 = dweight_into;
            into = &dweight2;
            if (c.bias) {
                dbias2 = dbias_into;
                bias_into = &dbias2;
            }
        }
        run_kernel(cpu::linear_cross_entropy_grad, {&dloss, &x, &weight, &bias, &labels, &lse2, into, bias_into},
                   {&dx2, &dweight2, &dbias2}, &attrs, {.threads = threads});
        // Of one word the exact gradient is 0, and what remains is the rounding of lse, beside gradients of about 1.
        const double least = c.vocabulary == 1 ? 1 : 1e-6;
        CHECK(error(dx2, dx, least) < (c.x == DType::f32 && !low ? 5e-6 : 1e-2));
        CHECK(error(dweight2, dweight, least) < (low ? 1e-2 : 5e-6));
        if (c.bias) CHECK(error(dbias2, dbias, least) < (low ? 1e-2 : 5e-6));
        const Array results[] = {loss2, lse2, dx2, dweight2};
        for (int i = 0; i < 4; ++i)
            if (threads == 1) first[i] = results[i];
            else CHECK(bit_equal(results[i], first[i]));
        if (c.into) continue;
        // Logits that forward left where dweight will lie: the same numbers.
        Array loss3(DType::f32, {}), lse3(DType::f32, {c.rows}), kept(DType::f32, {c.vocabulary, c.size});
        run_kernel(cpu::linear_cross_entropy, {&x, &weight, &bias, &labels}, {&loss3, &lse3, &kept}, &attrs, {.threads = threads});
        const Array none;
        run_kernel(cpu::linear_cross_entropy_grad, {&dloss, &x, &weight, &bias, &labels, &lse3, &none, &none, &kept},
                   {&dx2, &kept, &dbias2}, &attrs, {.threads = threads});
        const Array kept_results[] = {loss3, lse3, dx2, kept};
        for (int i = 0; i < 4; ++i) CHECK(bit_equal(kept_results[i], first[i]));
    }
}

}  // namespace

TEST_CASE("cross_entropy/equals_the_plain_kernel") {
    std::mt19937 rng(6);
    for (const DType type : kFloats)
        for (const int64_t vocabulary : {1, 2, 7, 64, 1000, 1031})
            for (const int64_t rows : {1, 3, 50}) check_cross_entropy(rows, vocabulary, type, 2, rng);
}

TEST_CASE("cross_entropy/of_no_labels_is_zero") {
    std::mt19937 rng(7);
    check_cross_entropy(5, 30, DType::f32, 10, rng);
    check_linear({5, 8, 30, DType::f32, DType::f32, true, false, false, 10}, rng);
}

TEST_CASE("linear_cross_entropy/equals_the_plain_kernel") {
    std::mt19937 rng(8);
    for (int i = 0; i < 40; ++i) {
        const int64_t rows[] = {1, 4, 37, 130}, sizes[] = {1, 8, 20, 67}, vocabularies[] = {1, 3, 50, 301, 1500};
        Linear c{rows[rng() % 4], sizes[rng() % 4], vocabularies[rng() % 5], kFloats[rng() % 3], kFloats[rng() % 3]};
        if (rng() % 2) c.weight = c.x;
        c.bias = rng() % 2, c.into = rng() % 2, c.in_place = rng() % 2;
        check_linear(c, rng);
    }
}

TEST_CASE("linear_cross_entropy/goes_over_several_blocks_of_rows_and_vocabulary") {
    std::mt19937 rng(9);
    for (const DType type : {DType::f32, DType::bf16}) check_linear({1100, 5, 4700, type, type, true, true, true}, rng);
}
