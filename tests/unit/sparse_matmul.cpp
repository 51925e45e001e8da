// Weights as their values that are not zero: every value comes back, and products by each way equal plain products, at whatever level
// DSRT_CPU allows, with teams of 1 to 3, for any share of zeros, none and all among them.
#include "kernels/sparse.h"

#include "ops/attrs_coded.h"
#include "tests/support/run_kernel.h"

namespace ds {
namespace ref {
extern const KernelList sparse_matmul;
}
namespace cpu {
extern const KernelList sparse_matmul;
}
}  // namespace ds

using namespace ds;
using namespace ds::test;

TEST_CASE("sparse_matmul/products_equal_plain_ones") {
    std::mt19937 rng(7);
    constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
    constexpr double kShares[] = {0, 0.02, 0.1, 0.3, 0.6, 1};
    for (int round = 0; round < 120; ++round) {
        const auto m = static_cast<int64_t>(rng() % (round % 2 ? 9 : 150) + 1), n = static_cast<int64_t>(rng() % 90 + 1),
                   k = round == 0 ? int64_t{2100} : static_cast<int64_t>(rng() % 300 + 1);
        const int64_t gap = rng() % 2 ? 3 : 0, bits = rng() % 2 ? 32 : 16;
        const bool out_first = rng() % 2;
        const double share = kShares[rng() % 6];
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(share);
        CAPTURE(bits);
        std::normal_distribution<float> draw;
        std::vector<float> w(static_cast<size_t>(n * k));
        for (float& x : w) x = static_cast<double>(rng()) < share * 0x1p32 ? draw(rng) : 0;
        if (bits == 16)
            for (float& x : w) x = to_f32(to_bf16(x));
        const SparseParts parts(n, k, count_nonzeros(w.data(), n * k), bits);
        std::vector<uint8_t> bytes(static_cast<size_t>(parts.bytes));
        code_sparse(w.data(), parts, out_first, bytes.data());
        const auto value = [&](int64_t o, int64_t i) { return w[static_cast<size_t>(out_first ? o * k + i : i * n + o)]; };
        const SparseWeight weight(bytes.data(), parts);
        int64_t wrong = 0;
        for (int64_t o = 0; o < n; ++o)
            for (int64_t i = 0; i < k; ++i) wrong += weight.at(o, i) != value(o, i);
        REQUIRE(wrong == 0);

        Array codes(DType::u8, {parts.bytes});
        for (int64_t i = 0; i < parts.bytes; ++i) codes.set(i, bytes[static_cast<size_t>(i)]);
        const DType type = kFloats[rng() % 3];
        const SparseMatmul attrs{.outs = n, .nonzeros = parts.nonzeros, .bits = bits, .out = kFloats[rng() % 3], .set_out = true};
        const auto a = Array::random(type, {m, k}, rng, 1, gap), bias = rng() % 2 ? Array::random(DType::f32, {n}, rng) : Array(),
                   into = rng() % 2 ? Array::random(attrs.out, {m, n}, rng) : Array();
        Array plain(DType::f64, {m, n}), expected(attrs.out, {m, n});
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (int64_t l = 0; l < k; ++l) sum += a.get(i * k + l) * value(j, l);
                plain.set(i * n + j, sum + (bias.tensor().present ? bias.get(j) : 0) + (into.tensor().present ? into.get(i * n + j) : 0));
            }
        const double rounding = attrs.out == DType::f32 ? 2e-6 : attrs.out == DType::f16 ? 1e-3 : 8e-3;
        run_kernel(ref::sparse_matmul, {&a, &codes, &bias, &into}, {&expected}, &attrs);
        CHECK(error(expected, plain, 1e-3) < rounding);
        for (const KernelImpl& way : cpu::sparse_matmul) {
            for (int threads = 1; threads <= 3; ++threads) {
                Array y(attrs.out, {m, n}, gap);
                y.fill(NAN);
                const std::vector<Tensor> in{a.tensor(), codes.tensor(), bias.tensor(), into.tensor()}, out{y.tensor()};
                if (way.declines({in, out, &attrs, threads})) continue;
                CAPTURE(way.name);
                // The way that writes zeros out rounds the weight to a's type.
                const bool rounds = std::string_view(way.name) == "decoded" && type != DType::f32;
                run_kernel(cpu::sparse_matmul, {&a, &codes, &bias, &into}, {&y}, &attrs, {.threads = threads, .only = way.name});
                CHECK(error(y, plain, 1e-3) < rounding + (rounds ? 8e-3 : 0));
            }
        }
    }
}
