// Weights in few bits: the values are the published ones, codes are the nearest, and products with them equal plain products with what the
// codes mean, at whatever level DSRT_CPU allows, with teams of 1 to 3.
#include "kernels/coded.h"

#include "ops/attrs_coded.h"
#include "tests/support/run_kernel.h"

namespace ds {
namespace ref {
extern const KernelList coded_matmul, int8_matmul;
}
namespace cpu {
extern const KernelList coded_matmul, int8_matmul;
}
}  // namespace ds

using namespace ds;
using namespace ds::test;

namespace {

std::vector<float> normal(int64_t n, std::mt19937& rng, float scale = 1) {
    std::normal_distribution<float> draw(0, scale);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& x : values) x = draw(rng);
    return values;
}

std::vector<uint8_t> coded_of(const std::vector<float>& x, WeightCode code) {
    const auto n = static_cast<int64_t>(x.size());
    const CodedParts parts(n, code);
    std::vector<uint8_t> bytes(static_cast<size_t>(parts.bytes));
    std::vector<float> scales(static_cast<size_t>(parts.blocks));
    code_blocks(x.data(), n, code, 0, parts.blocks, bytes.data(), scales.data());
    code_scales(scales, parts, code, bytes.data());
    return bytes;
}

std::vector<float> decoded(const std::vector<uint8_t>& bytes, int64_t n, WeightCode code) {
    const CodedWeight weight(bytes.data(), n, code);
    std::vector<float> values(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = weight.at(i);
    return values;
}

// x with P(Z <= x) = p.
double quantile(double p) {
    double low = -10, high = 10;
    for (int i = 0; i < 200; ++i) {
        const double middle = (low + high) / 2;
        (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    return (low + high) / 2;
}

}  // namespace

TEST_CASE("coded/NF4_has_the_paper's_values") {
    // Quantiles of the normal distribution, eight above zero and seven below, each half from 0.5 to the offset that leaves the ends finite;
    // the largest is 1.
    constexpr double kOffset = 0.9677083;
    std::vector<double> values{0};
    for (int i = 0; i < 8; ++i) values.push_back(quantile(kOffset + (0.5 - kOffset) * i / 8));
    for (int i = 0; i < 7; ++i) values.push_back(-quantile(kOffset + (0.5 - kOffset) * i / 7));
    std::sort(values.begin(), values.end());
    for (int i = 0; i < 16; ++i) CHECK(std::abs(kNormalFloat[i] - values[static_cast<size_t>(i)] / values[15]) < 5e-7);
}

TEST_CASE("coded/every_value_gets_the_nearest_code") {
    std::mt19937 rng(1);
    std::uniform_real_distribution<float> draw(-1, 1);
    for (int i = 0; i < 100000; ++i) {
        const float x = i < 16 ? kNormalFloat[i] : i < 31 ? std::nextafter(coded::between(i - 16), i % 2 ? 2.0f : -2.0f) : draw(rng);
        const uint8_t code = normal_float_code(x);
        for (const float other : kNormalFloat)
            REQUIRE(std::abs(static_cast<double>(x) - kNormalFloat[code]) <= std::abs(static_cast<double>(x) - other) + 1e-8);
        const uint8_t byte = coded::nearest_in_tree(x);
        for (const float other : coded::kTree) REQUIRE(std::abs(x - coded::kTree[byte]) <= std::abs(x - other) + 1e-7f);
    }
    CHECK(std::is_sorted(coded::kTree.begin(), coded::kTree.end()));
    CHECK(coded::kTree[127] == 0);
}

TEST_CASE("coded/blocks_keep_their_largest_value_and_codes_keep_themselves") {
    std::mt19937 rng(2);
    for (const int64_t n : {1, 63, 64, 65, 1000, 64 * 700 + 3})
        for (const WeightCode code : {WeightCode{4, false}, {8, false}, {4, true}}) {
            CAPTURE(n);
            CAPTURE(code.bits);
            const auto x = normal(n, rng, 0.02f);
            const auto bytes = coded_of(x, code);
            const auto back = decoded(bytes, n, code);
            for (int64_t block = 0; block * kCodeBlock < n; ++block) {
                float most = 0, error = 0;
                for (int64_t i = block * kCodeBlock; i < std::min(n, (block + 1) * kCodeBlock); ++i) {
                    const auto at = static_cast<size_t>(i);
                    most = std::max(most, std::abs(x[at]));
                    error = std::max(error, std::abs(x[at] - back[at]));
                }
                // Half of the widest gap; scales in a byte are off by a hundredth and more.
                CHECK(error <= most * (code.bits == 8 ? 0.0040f : 0.1520f) + (code.two_levels ? 0.003f : 0));
            }
            if (code.two_levels) continue;
            const auto again = coded_of(back, code);  // with 8 bits, a scale may be off by the rounding of scale / 127 * 127
            CHECK(std::equal(bytes.begin(), code.bits == 4 ? bytes.end() : bytes.begin() + CodedParts(n, code).scales, again.begin()));
        }
}

TEST_CASE("coded/errors_are_those_of_the_paper's_data_type") {
    std::mt19937 rng(3);
    const int64_t n = 1 << 20;
    const auto x = normal(n, rng);
    const auto mean_error = [&](WeightCode code) {
        const auto back = decoded(coded_of(x, code), n, code);
        double sum = 0;
        for (size_t i = 0; i < back.size(); ++i) sum += std::abs(static_cast<double>(back[i]) - x[i]);
        return sum / static_cast<double>(n);
    };
    const double one = mean_error({4, false}), two = mean_error({4, true});
    CHECK(one == doctest::Approx(0.0728).epsilon(0.01));  // what bitsandbytes' own tests say of NF4 in blocks of 64
    CHECK(two > one);
    CHECK(two < one * 1.02);
    CHECK(mean_error({8, false}) < 0.006);
    CHECK(CodedParts(n, {4, true}).bytes * 8.0 / static_cast<double>(n) == doctest::Approx(4.127).epsilon(0.001));
}

namespace {

std::vector<uint8_t> grouped_of(const std::vector<float>& x, int64_t outs, int64_t ins, const WeightCode& code) {
    const GroupParts parts(outs, ins, code);
    std::vector<uint8_t> bytes(static_cast<size_t>(parts.bytes), 255);
    code_groups(x.data(), parts, code, 0, outs, bytes.data());
    return bytes;
}

}  // namespace

TEST_CASE("coded/groups_have_DeepSpeed's_values") {
    const std::vector<float> x = {-1, -0.5f, 0.25f, 1};  // the largest saturates low, both ways
    for (const bool asymmetric : {false, true}) {
        const WeightCode code{.bits = 4, .group = 4, .asymmetric = asymmetric};
        const GroupParts parts(1, 4, code);
        const auto bytes = grouped_of(x, 1, 4, code);
        const GroupWeight weight(bytes.data(), parts, code);
        for (const auto& [i, exact] : {std::pair{0, -1.0f}, {1, -0.5f}, {2, 0.25f}, {3, 0.875f}}) CHECK(weight.at(0, i) == exact);
        const auto same = grouped_of({0.3f, 0.3f, 0.3f, 0.3f}, 1, 4, code), none = grouped_of({0, 0, 0, 0}, 1, 4, code);
        if (asymmetric) CHECK(GroupWeight(same.data(), parts, code).at(0, 3) == 0.3f);
        CHECK(GroupWeight(none.data(), parts, code).at(0, 3) == 0);
    }
    std::mt19937 rng(6);
    for (int round = 0; round < 200; ++round) {
        const int64_t group = 1 + static_cast<int64_t>(rng() % 40), groups = 1 + static_cast<int64_t>(rng() % 4),
                      outs = 1 + static_cast<int64_t>(rng() % 5), ins = group * groups;
        const WeightCode code{.bits = rng() % 2 ? 4 : 8, .out_first = rng() % 2 == 0, .group = group, .asymmetric = rng() % 2 == 0};
        const GroupParts parts(outs, ins, code);
        const auto w = normal(outs * ins, rng, 0.02f);
        const auto bytes = grouped_of(w, outs, ins, code);
        const GroupWeight weight(bytes.data(), parts, code);
        for (int64_t o = 0; o < outs; ++o)
            for (int64_t g = 0; g < groups; ++g) {
                std::vector<float> values, rounded(static_cast<size_t>(group));
                for (int64_t k = 0; k < group; ++k)
                    values.push_back(w[static_cast<size_t>(code.out_first ? o * ins + g * group + k : (g * group + k) * outs + o)]);
                fake_quantize_group(values.data(), rounded.data(), group, code.bits, code.asymmetric);
                for (int64_t k = 0; k < group; ++k)
                    REQUIRE(weight.at(o, g * group + k) == doctest::Approx(rounded[static_cast<size_t>(k)]).epsilon(1e-5));
            }
    }
    CHECK(coded_bytes(1024, 1024, {.bits = 4, .group = 64}) * 8.0 / (1024 * 1024) == 4.5);
}

TEST_CASE("coded/products_equal_plain_ones") {
    std::mt19937 rng(4);
    const int64_t sizes[] = {1, 2, 7, 16, 33, 64, 65, 100, 130, 200};
    const auto any = [&] { return sizes[rng() % std::size(sizes)]; };
    constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
    for (int round = 0; round < 120; ++round) {
        const WeightCode code{rng() % 3 ? 4 : 8, false};
        CodedMatmul attrs{.bits = code.bits,
                          .two_levels = code.bits == 4 && rng() % 2,
                          .rows = any(),
                          .columns = any(),
                          .transpose = rng() % 2 == 0,
                          .set_out = true};
        if (round == 0) attrs.rows = 1500, attrs.columns = 1100;  // several groups
        const DType type = kFloats[rng() % 3];
        attrs.out = kFloats[rng() % 3];
        const int64_t m = any(), n = attrs.transpose ? attrs.rows : attrs.columns, k = attrs.transpose ? attrs.columns : attrs.rows,
                      gap = rng() % 2 ? 3 : 0;
        CAPTURE(m);
        CAPTURE(attrs.rows);
        CAPTURE(attrs.columns);
        CAPTURE(attrs.transpose);
        CAPTURE(code.bits);
        if (round % 3 == 1) {
            const int64_t groups[] = {1, 2, 32, 50, 64};
            attrs.group = groups[rng() % 5], attrs.two_levels = false, attrs.asymmetric = rng() % 2 == 0;
            if (attrs.columns % attrs.group) attrs.group = attrs.columns;
        }
        CAPTURE(attrs.group);
        const auto w = normal(attrs.rows * attrs.columns, rng);
        const auto bytes = attrs.group ? grouped_of(w, attrs.rows, attrs.columns, attrs.code()) : coded_of(w, attrs.code());
        Array codes(DType::u8, {static_cast<int64_t>(bytes.size())});
        for (size_t i = 0; i < bytes.size(); ++i) codes.set(static_cast<int64_t>(i), bytes[i]);
        const auto a = Array::random(type, {m, k}, rng, 1, gap), bias = rng() % 2 ? Array::random(DType::f32, {n}, rng) : Array(),
                   into = rng() % 2 ? Array::random(attrs.out, {m, n}, rng) : Array();
        Array expected(attrs.out, {m, n});
        run_kernel(ref::coded_matmul, {&a, &codes, &bias, &into}, {&expected}, &attrs);
        Array first;
        for (int threads = 1; threads <= 3; ++threads) {
            Array y(attrs.out, {m, n}, gap);
            y.fill(NAN);
            run_kernel(cpu::coded_matmul, {&a, &codes, &bias, &into}, {&y}, &attrs, {.threads = threads});
            CHECK(error(y, expected, 1e-3) < (attrs.out == DType::f32 ? 3e-6 : attrs.out == DType::f16 ? 1e-3 : 8e-3));
            if (threads == 1) first = y;
            else CHECK(bit_equal(y, first));
        }
    }
}

TEST_CASE("coded/integer_products_equal_plain_ones") {
    std::mt19937 rng(5);
    const int64_t sizes[] = {1, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 130};
    const auto any = [&] { return sizes[rng() % std::size(sizes)]; };
    constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
    for (int round = 0; round < 150; ++round) {
        const int64_t m = any(), n = any(), k = round == 0 ? 3000 : any(), gap = rng() % 2 ? 3 : 0;
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const bool out_first = rng() % 2;
        const Int8Parts parts(n, k);
        const auto w = normal(n * k, rng);
        std::vector<uint8_t> bytes(static_cast<size_t>(parts.bytes));
        code_outputs(w.data(), parts, out_first, 0, parts.panels, bytes.data());
        for (int64_t o = 0; o < n; ++o)
            for (int64_t i = 0; i < k; ++i)
                REQUIRE(std::abs(coded_output(bytes.data(), parts, o, i) - w[static_cast<size_t>(out_first ? o * k + i : i * n + o)]) <
                        0.02f);
        const bool fixed = round % 3 == 1;
        if (fixed) InputCode{0.02f, static_cast<int32_t>(rng() % 256) - 128}.put(bytes.data(), parts);  // values beyond it are cut off
        Array codes(DType::u8, {parts.bytes});
        for (int64_t i = 0; i < parts.bytes; ++i) codes.set(i, bytes[static_cast<size_t>(i)]);
        const Int8Matmul attrs{.outs = n, .fixed = fixed, .out = kFloats[rng() % 3], .set_out = true};
        auto a = Array::random(kFloats[rng() % 3], {m, k}, rng, 1, gap);
        for (int64_t i = 0; i < k; ++i) a.set(i, 0);  // a row of zeros
        if (fixed) a.set(k - 1, 1e4);                 // no integer is as large
        const auto bias = rng() % 2 ? Array::random(DType::f32, {n}, rng) : Array(),
                   into = rng() % 2 ? Array::random(attrs.out, {m, n}, rng) : Array();
        Array expected(attrs.out, {m, n});
        run_kernel(ref::int8_matmul, {&a, &codes, &bias, &into}, {&expected}, &attrs);
        for (int threads = 1; threads <= 3; ++threads) {
            Array y(attrs.out, {m, n}, gap);
            y.fill(NAN);
            run_kernel(cpu::int8_matmul, {&a, &codes, &bias, &into}, {&y}, &attrs, {.threads = threads});
            CHECK(error(y, expected, 1e-3) < (attrs.out == DType::f32 ? 1e-6 : attrs.out == DType::f16 ? 1e-3 : 8e-3));
        }
    }
}
