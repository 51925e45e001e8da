// kernels/cpu against kernels/ref: random shapes, types, row strides and team sizes; gradients of ref against finite differences.
// CTest runs this program once for each level of DSRT_CPU. With DS_TEST_DEVICE (tests/cuda), ds::cpu's kernels are a device's.
#include <functional>

#ifndef DS_TEST_DEVICE
#include "kernels/cpu/copy_far.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/logits.h"
#endif
#include "ops/attrs.h"
#include "tests/support/run_kernel.h"

using namespace ds;
using ds::test::Array;
using Rng = std::mt19937;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

int64_t pick(Rng& rng, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); }
DType any_float(Rng& rng) { return kFloats[pick(rng, 0, 2)]; }
int64_t any_gap(Rng& rng) { return pick(rng, 0, 2) ? 0 : pick(rng, 1, 9); }
std::vector<int64_t> any_dims(Rng& rng, int rank) {
    std::vector<int64_t> dims;
    for (int i = 0; i + 1 < rank; ++i) dims.push_back(pick(rng, 1, 5));
    dims.push_back(pick(rng, 0, 3) ? pick(rng, 1, 80) : pick(rng, 500, 2600));
    return dims;
}
Array any_array(Rng& rng, std::vector<int64_t> dims, double scale = 1) {
    return Array::random(any_float(rng), std::move(dims), rng, scale, any_gap(rng));
}
Array dense(Rng& rng, std::vector<int64_t> dims) { return Array::random(any_float(rng), std::move(dims), rng); }
double rounding(const Array& a) { return a.tensor().dtype == DType::f32 ? 3e-6 : a.tensor().dtype == DType::f16 ? 1.1e-3 : 8.5e-3; }

struct Kernels {
    const KernelList &cpu, &ref;
};
#define BOTH(op) \
    Kernels { cpu::op, ref::op }

// Teams of 1 to 3 give the same bits, close to ref's. `slack` multiplies the tolerance.
void check(Kernels kernels, const std::vector<const Array*>& in, const std::vector<Array>& out, const void* attrs = nullptr,
           double slack = 1, Runtime runtime = {}) {
    std::vector<Array> expected = out, first;
    const auto pointers = [](std::vector<Array>& arrays) {
        std::vector<Array*> p;
        for (Array& a : arrays) p.push_back(&a);
        return p;
    };
    test::run_kernel(kernels.ref, in, pointers(expected), attrs, {1, runtime, nullptr});
    for (int threads = 1; threads <= test::kTeams; ++threads) {
        std::vector<Array> actual = out;
        for (Array& a : actual) a.fill(77);
        test::run_kernel(kernels.cpu, in, pointers(actual), attrs, {threads, runtime, nullptr});
        if (threads == 1) first = actual;
        for (size_t i = 0; i < out.size(); ++i) {
            INFO("output " << i << ", team of " << threads << ", columns " << out[i].tensor().columns() << ", rows "
                           << out[i].tensor().rows());
            CHECK(test::bit_equal(actual[i], first[i]));
            CHECK(test::error(actual[i], expected[i], 1e-6) <= slack * rounding(out[i]));
        }
    }
}

Array blank(Rng& rng, const Array& like, bool any_stride = true) {
    const Tensor t = like.tensor();
    return Array(any_float(rng), {t.dims, t.dims + t.rank}, any_stride ? any_gap(rng) : 0);
}

// Central differences of a scalar of outputs, sum(up * y), against what the gradient kernel says.
void check_gradient(const std::function<double(const Array&)>& loss, Array x, const Array& gradient, double tolerance = 1e-5) {
    Array numeric(DType::f64, {x.count()});
    Array analytic(DType::f64, {x.count()});
    for (int64_t i = 0; i < x.count(); ++i) {
        const double at = x.get(i), h = 1e-4;
        x.set(i, at + h);
        const double above = loss(x);
        x.set(i, at - h);
        numeric.set(i, (above - loss(x)) / (2 * h));
        x.set(i, at);
        analytic.set(i, gradient.get(i));
    }
    CHECK(test::error(analytic, numeric) < tolerance);
}

double dot(const Array& a, const Array& b) {
    double sum = 0;
    for (int64_t i = 0; i < a.count(); ++i) sum += a.get(i) * b.get(i);
    return sum;
}

Array random64(std::vector<int64_t> dims, Rng& rng) { return Array::random(DType::f64, std::move(dims), rng); }

}  // namespace

TEST_CASE("elementwise/unary_ops_equal_the_oracle_on_any_type_and_stride") {
    Rng rng(1);
    const Gelu tanh_form{true}, erf_form{false};
    const Scale third{1.0 / 3};
    const struct {
        Kernels kernels;
        const void* attrs;
        bool positive;
    } ops[] = {{BOTH(relu), nullptr, false},   {BOTH(tanh), nullptr, false}, {BOTH(silu), nullptr, false}, {BOTH(gelu), &tanh_form, false},
               {BOTH(gelu), &erf_form, false}, {BOTH(exp), nullptr, false},  {BOTH(log), nullptr, true},   {BOTH(sqrt), nullptr, true},
               {BOTH(scale), &third, false},   {BOTH(cast), nullptr, false}};
    for (const auto& op : ops)
        for (int trial = 0; trial < 25; ++trial) {
            Array x = any_array(rng, any_dims(rng, static_cast<int>(pick(rng, 1, 3))), 2);
            if (op.positive)
                for (int64_t i = 0; i < x.count(); ++i) x.set(i, std::abs(x.get(i)) + 0.01);
            check(op.kernels, {&x}, {blank(rng, x)}, op.attrs);
        }
}

TEST_CASE("elementwise/gradients_equal_the_oracle") {
    Rng rng(2);
    const Gelu tanh_form{true}, erf_form{false};
    const struct {
        Kernels kernels;
        const void* attrs;
    } ops[] = {{BOTH(relu_grad), nullptr},
               {BOTH(tanh_grad), nullptr},
               {BOTH(silu_grad), nullptr},
               {BOTH(gelu_grad), &tanh_form},
               {BOTH(gelu_grad), &erf_form}};
    for (const auto& op : ops)
        for (int trial = 0; trial < 15; ++trial) {
            const std::vector<int64_t> dims = any_dims(rng, 2);
            Array dy = any_array(rng, dims), x = any_array(rng, dims);
            check(op.kernels, {&dy, &x}, {blank(rng, x)}, op.attrs);
        }
}

TEST_CASE("elementwise/functions_are_accurate_to_a_few_units_in_the_last_place") {
    const Gelu tanh_form{true}, erf_form{false};
    const struct {
        Kernels kernels;
        const void* attrs;
        double low, high, tolerance;  // relative
    } ops[] = {{BOTH(exp), nullptr, -87, 88.7, 2.4e-7}, {BOTH(tanh), nullptr, -12, 12, 4e-7},  {BOTH(silu), nullptr, -15, 30, 1e-6},
               {BOTH(log), nullptr, 1e-30, 100, 4e-7},  {BOTH(gelu), &erf_form, -2, 12, 6e-7}, {BOTH(gelu), &tanh_form, -2, 12, 1e-6},
               {BOTH(tanh), nullptr, -1e-3, 1e-3, 4e-7}};
    for (const auto& op : ops) {
        constexpr int64_t n = 40001;
        Array x(DType::f32, {n}), actual(DType::f32, {n}), expected(DType::f64, {n});
        for (int64_t i = 0; i < n; ++i) x.set(i, op.low + (op.high - op.low) * static_cast<double>(i) / static_cast<double>(n - 1));
        test::run_kernel(op.kernels.cpu, {&x}, {&actual}, op.attrs);
        test::run_kernel(op.kernels.ref, {&x}, {&expected}, op.attrs);
        double worst = 0, where = 0;
        for (int64_t i = 0; i < n; ++i) {
            const double e = std::abs(actual.get(i) - expected.get(i)) / (std::abs(expected.get(i)) + 1e-37);
            if (e > worst) worst = e, where = x.get(i);
        }
        INFO("at " << where);
        CHECK(worst < op.tolerance);
    }
}

TEST_CASE("elementwise/special_values_pass_through") {
    const double nan = std::nan(""), inf = INFINITY;
    const Array x = Array::of(DType::f32, {6}, {nan, inf, -inf, 0, -1, 200});
    const auto run = [&](const KernelList& list, const void* attrs = nullptr) {
        Array y(DType::f32, {6});
        test::run_kernel(list, {&x}, {&y}, attrs);
        return y;
    };
    const Array e = run(cpu::exp), l = run(cpu::log), t = run(cpu::tanh), r = run(cpu::relu), s = run(cpu::silu);
    CHECK(std::isnan(e.get(0)));
    CHECK(e.get(1) == inf);
    CHECK(e.get(2) == 0);
    CHECK(e.get(3) == 1);
    CHECK(e.get(5) == inf);
    CHECK(std::isnan(l.get(0)));
    CHECK(l.get(1) == inf);
    CHECK(l.get(3) == -inf);
    CHECK(std::isnan(l.get(4)));
    CHECK(std::isnan(t.get(0)));
    CHECK(t.get(1) == 1);
    CHECK(t.get(2) == -1);
    CHECK(t.get(3) == 0);
    CHECK(std::isnan(r.get(0)));
    CHECK(std::isnan(s.get(0)));
    const Gelu gelu;
    CHECK(std::isnan(run(cpu::gelu, &gelu).get(0)));
    CHECK(run(cpu::gelu, &gelu).get(1) == inf);
}

TEST_CASE("elementwise/binary_ops_broadcast_like_numpy") {
    Rng rng(3);
    const Kernels ops[] = {BOTH(add), BOTH(sub), BOTH(mul), BOTH(div)};
    for (const Kernels& op : ops)
        for (int trial = 0; trial < 60; ++trial) {
            const std::vector<int64_t> dims = any_dims(rng, static_cast<int>(pick(rng, 1, 4)));
            const auto side = [&](bool whole) {
                std::vector<int64_t> d = dims;
                if (!whole) {
                    for (int64_t& n : d)
                        if (pick(rng, 0, 2) == 0) n = 1;
                    d.erase(d.begin(), d.begin() + pick(rng, 0, static_cast<int64_t>(d.size())));
                }
                return d;
            };
            const bool left_whole = pick(rng, 0, 1);
            Array a = any_array(rng, side(left_whole)), b = any_array(rng, side(!left_whole));
            for (int64_t i = 0; i < b.count(); ++i) b.set(i, b.get(i) < 0 ? b.get(i) - 0.5 : b.get(i) + 0.5);
            check(op, {&a, &b}, {Array(any_float(rng), dims, any_gap(rng))});
        }
}

TEST_CASE("elementwise/results_may_replace_an_input") {
    Rng rng(4);
    for (DType type : kFloats) {
        Array a = Array::random(type, {7, 333}, rng), b = Array::random(type, {333}, rng), expected(type, {7, 333});
        test::run_kernel(cpu::add, {&a, &b}, {&expected}, nullptr);
        test::run_kernel(cpu::add, {&a, &b}, {&a}, nullptr, {2});
        CHECK(test::bit_equal(a, expected));
        test::run_kernel(cpu::tanh, {&a}, {&expected}, nullptr);
        test::run_kernel(cpu::tanh, {&a}, {&a}, nullptr, {2});
        CHECK(test::bit_equal(a, expected));
    }
}

// Rows of whole fours, with and without gaps, of any types, one operand perhaps a row for all rows; a result in the memory of an input.
TEST_CASE("elementwise/whole_fours_equal_the_oracle") {
    Rng rng(41);
    const Gelu tanh_form{true};
    const Array none;
    constexpr int64_t shapes[][2] = {{1, 4}, {7, 768}, {3, 1000}, {1, 2052}, {5, 516}};
    for (const auto& [rows, n] : shapes)
        for (int trial = 0; trial < 12; ++trial) {
            const int64_t gap = trial % 3 * 4;
            const auto operand = [&](std::vector<int64_t> dims) { return Array::random(any_float(rng), std::move(dims), rng, 1, gap); };
            Array a = operand({rows, n}), b = trial % 4 == 3 ? operand({n}) : operand({rows, n}), x = operand({rows, n});
            const auto result = [&] { return Array(any_float(rng), {rows, n}, pick(rng, 0, 1) * 4); };
            check(BOTH(add), {&a, &b}, {result()});
            check(BOTH(mul), {&b, &a}, {result()});
            check(BOTH(gelu), {&a}, {result()}, &tanh_form);
            check(BOTH(gelu_grad), {&a, &x}, {result()}, &tanh_form);
            check(BOTH(silu_grad), {&a, &x}, {result()});
            check(BOTH(cast), {&a}, {result()});
            const Dropout drop{0.3, trial};
            check(BOTH(dropout), {&a, &none}, {result()}, &drop, 1, {12345, static_cast<uint64_t>(trial)});
            Array expected(a.tensor().dtype, {rows, n}, gap);
            test::run_kernel(cpu::add, {&a, &b}, {&expected}, nullptr);
            test::run_kernel(cpu::add, {&a, &b}, {&a}, nullptr);
            CHECK(test::bit_equal(a, expected));
        }
}

TEST_CASE("cast/every_16_bit_float_makes_the_way_to_f32_and_back") {
    for (DType type : {DType::bf16, DType::f16}) {
        Array x(type, {65536}), wide(DType::f32, {65536}), back(type, {65536});
        for (int i = 0; i < 65536; ++i) x.tensor().as<uint16_t>()[i] = static_cast<uint16_t>(i);
        test::run_kernel(cpu::cast, {&x}, {&wide}, nullptr);
        test::run_kernel(cpu::cast, {&wide}, {&back}, nullptr);
        for (int i = 0; i < 65536; ++i) {
            const double v = x.get(i);
            if (std::isnan(v)) CHECK((std::isnan(wide.get(i)) && std::isnan(back.get(i))));
            else CHECK((wide.get(i) == v && x.tensor().as<uint16_t>()[i] == back.tensor().as<uint16_t>()[i]));
        }
    }
}

TEST_CASE("cast/rounds_as_the_scalar_conversions_do") {
    Rng rng(5);
    constexpr int64_t n = 100003;
    Array x(DType::f32, {n});
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t bits = static_cast<uint32_t>(rng()), ordinary = (bits & 0x8fffffffu) | 0x30000000u;
        reinterpret_cast<uint32_t*>(x.tensor().data)[i] = i % 2 ? bits : i % 4 ? ordinary : ordinary & 0xffff8000u;
    }
    for (DType type : {DType::bf16, DType::f16}) {
        Array a(type, {n}), b(type, {n});
        test::run_kernel(cpu::cast, {&x}, {&a}, nullptr);
        test::run_kernel(ref::cast, {&x}, {&b}, nullptr);
        CHECK(test::bit_equal(a, b));
    }
    Array ints = Array::of(DType::i64, {3}, {-1, 0, 5}), floats(DType::bf16, {3});
    test::run_kernel(cpu::cast, {&ints}, {&floats}, nullptr);
    CHECK(floats.get(0) == -1);
    CHECK(floats.get(2) == 5);
}

TEST_CASE("softmax/forward_and_gradient_equal_the_oracle") {
    Rng rng(6);
    for (int trial = 0; trial < 25; ++trial) {
        const std::vector<int64_t> dims = any_dims(rng, static_cast<int>(pick(rng, 1, 3)));
        Array x = any_array(rng, dims, 4), dy = any_array(rng, dims);
        if (trial % 5 == 0 && x.count() > 1) x.set(0, -INFINITY);
        check(BOTH(softmax), {&x}, {blank(rng, x)});
        Array y(any_float(rng), dims, any_gap(rng));
        test::run_kernel(ref::softmax, {&x}, {&y}, nullptr);
        check(BOTH(softmax_grad), {&dy, &y}, {blank(rng, x)}, nullptr, 4);
    }
}

TEST_CASE("norms/forward_and_gradient_equal_the_oracle") {
    Rng rng(7);
    const Norm attrs{1e-5, DType::f32};
    for (int trial = 0; trial < 30; ++trial) {
        std::vector<int64_t> dims = {pick(rng, 1, 200), trial % 6 == 5 ? pick(rng, 3000, 4000) : pick(rng, 2, 300)};
        if (trial % 6 == 5) dims[0] = pick(rng, 1, 20);
        const int64_t rows = dims[0], n = dims[1];
        Array x = any_array(rng, dims), weight = dense(rng, {n}), bias = dense(rng, {n}), dy = any_array(rng, dims);
        Array mean(DType::f32, {rows}), rstd(DType::f32, {rows}), y(DType::f32, dims), none;
        check(BOTH(layernorm), {&x, &weight, &bias}, {blank(rng, x), mean, rstd}, &attrs);
        test::run_kernel(ref::layernorm, {&x, &weight, &bias}, {&y, &mean, &rstd}, &attrs);
        Array into = any_array(rng, dims), weight_into = Array::random(DType::f32, {n}, rng),
              bias_into = Array::random(DType::f32, {n}, rng);
        const bool with = trial % 2;
        check(BOTH(layernorm_grad),
              {&dy, &x, &weight, &mean, &rstd, with ? &into : &none, with ? &weight_into : &none, with ? &bias_into : &none},
              {blank(rng, x), Array(DType::f32, {n}), Array(DType::f32, {n})}, &attrs, 2);
        check(BOTH(rmsnorm), {&x, &weight}, {blank(rng, x), rstd}, &attrs);
        test::run_kernel(ref::rmsnorm, {&x, &weight}, {&y, &rstd}, &attrs);
        check(BOTH(rmsnorm_grad), {&dy, &x, &weight, &rstd, with ? &into : &none, with ? &weight_into : &none},
              {blank(rng, x), Array(DType::f32, {n})}, &attrs, 2);
    }
}

// Rows that lie for wide accesses, in the pairs of types that steps have, with the widths at which kernels change; dx in the memory of what
// it is added to.
TEST_CASE("norms/rows_of_whole_fours_equal_the_oracle") {
    Rng rng(71);
    const Norm attrs{1e-5, DType::f32};
    constexpr DType pairs[][2] = {{DType::f32, DType::f32},   {DType::bf16, DType::f32}, {DType::f16, DType::f32},
                                  {DType::bf16, DType::bf16}, {DType::f16, DType::f16},  {DType::f32, DType::bf16}};
    constexpr int64_t shapes[][2] = {{1, 768}, {37, 768}, {19, 1000}, {9, 1024}, {3, 3000}, {2, 8192}, {1, 8200}, {4200, 4}};
    int trial = 0;
    for (const auto& [rows, n] : shapes)
        for (const auto& [up, type] : pairs) {
            const int64_t gap = ++trial % 3 * 4;
            Array x = Array::random(type, {rows, n}, rng, 1, gap), dy = Array::random(up, {rows, n}, rng, 1, 4), weight = dense(rng, {n}),
                  bias = dense(rng, {n});
            Array mean(DType::f32, {rows}), rstd(DType::f32, {rows}), y(up, {rows, n}, gap), dx(type, {rows, n}, gap),
                sums(DType::f32, {n}), none;
            check(BOTH(layernorm), {&x, &weight, &bias}, {y, mean, rstd}, &attrs);
            test::run_kernel(ref::layernorm, {&x, &weight, &bias}, {&y, &mean, &rstd}, &attrs);
            Array into = Array::random(type, {rows, n}, rng, 1, gap), sums_into = Array::random(DType::f32, {n}, rng),
                  weight_into = Array::random(DType::f32, {n}, rng);
            const double slack = rows > 1000 ? 16 : 2;
            check(BOTH(layernorm_grad), {&dy, &x, &weight, &mean, &rstd, &into, &weight_into, &sums_into}, {dx, sums, sums}, &attrs, slack);
            Array bias_sums = sums, other = sums, other_bias = sums;
            test::run_kernel(cpu::layernorm_grad, {&dy, &x, &weight, &mean, &rstd, &into, &none, &none}, {&dx, &sums, &bias_sums}, &attrs);
            test::run_kernel(cpu::layernorm_grad, {&dy, &x, &weight, &mean, &rstd, &into, &none, &none}, {&into, &other, &other_bias},
                             &attrs);
            CHECK((test::bit_equal(dx, into) && test::bit_equal(sums, other) && test::bit_equal(bias_sums, other_bias)));
            check(BOTH(rmsnorm), {&x, &weight}, {y, rstd}, &attrs);
            test::run_kernel(ref::rmsnorm, {&x, &weight}, {&y, &rstd}, &attrs);
            check(BOTH(rmsnorm_grad), {&dy, &x, &weight, &rstd, &none, &weight_into}, {dx, sums}, &attrs, slack);
        }
}

TEST_CASE("norms/variance_survives_a_large_mean") {
    Rng rng(8);
    const Norm attrs{1e-5, DType::f32};
    Array x = Array::random(DType::f32, {4, 1000}, rng), weight(DType::f32, {1000}), bias(DType::f32, {1000}), mean(DType::f32, {4}),
          rstd(DType::f32, {4});
    for (int64_t i = 0; i < x.count(); ++i) x.set(i, 1000 + x.get(i));
    weight.fill(1);
    check(BOTH(layernorm), {&x, &weight, &bias}, {Array(DType::f32, {4, 1000}), mean, rstd}, &attrs,
          20);  // the mean itself has 1e3 * 2^-24
}

TEST_CASE("norms/gradients_of_the_oracle_are_finite_differences") {
    Rng rng(9);
    const Norm attrs{1e-5, DType::f32};
    Array x = random64({3, 7}, rng), weight = random64({7}, rng), bias = random64({7}, rng), dy = random64({3, 7}, rng), none;
    Array y(DType::f64, {3, 7}), mean(DType::f64, {3}), rstd(DType::f64, {3}), dx(DType::f64, {3, 7}), dweight(DType::f64, {7}),
        dbias(DType::f64, {7});
    const auto layer = [&](const Array& a, const Array& w, const Array& b) {
        Array out(DType::f64, {3, 7}), m(DType::f64, {3}), r(DType::f64, {3});
        test::run_kernel(ref::layernorm, {&a, &w, &b}, {&out, &m, &r}, &attrs);
        return dot(out, dy);
    };
    test::run_kernel(ref::layernorm, {&x, &weight, &bias}, {&y, &mean, &rstd}, &attrs);
    test::run_kernel(ref::layernorm_grad, {&dy, &x, &weight, &mean, &rstd, &none, &none, &none}, {&dx, &dweight, &dbias}, &attrs);
    check_gradient([&](const Array& a) { return layer(a, weight, bias); }, x, dx);
    check_gradient([&](const Array& a) { return layer(x, a, bias); }, weight, dweight);
    check_gradient([&](const Array& a) { return layer(x, weight, a); }, bias, dbias);
    const auto rms = [&](const Array& a, const Array& w) {
        Array out(DType::f64, {3, 7}), r(DType::f64, {3});
        test::run_kernel(ref::rmsnorm, {&a, &w}, {&out, &r}, &attrs);
        return dot(out, dy);
    };
    test::run_kernel(ref::rmsnorm, {&x, &weight}, {&y, &rstd}, &attrs);
    test::run_kernel(ref::rmsnorm_grad, {&dy, &x, &weight, &rstd, &none, &none}, {&dx, &dweight}, &attrs);
    check_gradient([&](const Array& a) { return rms(a, weight); }, x, dx);
    check_gradient([&](const Array& a) { return rms(x, a); }, weight, dweight);
}

TEST_CASE("activations/gradients_of_the_oracle_are_finite_differences") {
    Rng rng(10);
    const Gelu tanh_form{true}, erf_form{false};
    const struct {
        const KernelList &forward, &backward;
        const void* attrs;
        bool of_output;
    } ops[] = {{ref::tanh, ref::tanh_grad, nullptr, true},     {ref::silu, ref::silu_grad, nullptr, false},
               {ref::gelu, ref::gelu_grad, &tanh_form, false}, {ref::gelu, ref::gelu_grad, &erf_form, false},
               {ref::relu, ref::relu_grad, nullptr, true},     {ref::softmax, ref::softmax_grad, nullptr, true}};
    for (const auto& op : ops) {
        Array x = random64({4, 9}, rng), dy = random64({4, 9}, rng), y(DType::f64, {4, 9}), dx(DType::f64, {4, 9});
        test::run_kernel(op.forward, {&x}, {&y}, op.attrs);
        test::run_kernel(op.backward, {&dy, op.of_output ? &y : &x}, {&dx}, op.attrs);
        check_gradient(
            [&](const Array& a) {
                Array out(DType::f64, {4, 9});
                test::run_kernel(op.forward, {&a}, {&out}, op.attrs);
                return dot(out, dy);
            },
            x, dx);
    }
}

TEST_CASE("sum/any_axes_equal_the_oracle_in_one_order_for_every_team") {
    Rng rng(11);
    for (int trial = 0; trial < 80; ++trial) {
        std::vector<int64_t> dims = any_dims(rng, static_cast<int>(pick(rng, 1, 4)));
        if (trial % 4 == 0) dims[0] = pick(rng, 60, 700);
        Reduce attrs;
        std::vector<int64_t> kept;
        const int64_t rank = static_cast<int64_t>(dims.size());
        if (trial % 5) {  // one run of axes, as the fast kernel serves
            const int64_t first = pick(rng, 0, rank - 1), last = pick(rng, first, rank - 1);
            for (int64_t i = 0; i < rank; ++i) {
                if (i >= first && i <= last) attrs.axes.push_back(i % 2 ? i - rank : i);
                else kept.push_back(dims[static_cast<size_t>(i)]);
            }
        }
        Array x = trial % 3 ? dense(rng, dims) : any_array(rng, dims), into = dense(rng, kept), none;
        const Array y(any_float(rng), kept);
        std::vector<Tensor> in = {x.tensor(), trial % 2 ? into.tensor() : none.tensor()}, out = {y.tensor()};
        if (cpu::sum.begin()->declines(Request{in, out, &attrs, 1})) continue;
        check(BOTH(sum), {&x, trial % 2 ? &into : &none}, {y}, &attrs, 4);
    }
}

TEST_CASE("sum/rows_of_whole_fours_equal_the_oracle") {
    Rng rng(43);
    const Reduce attrs{{0}, false};
    constexpr int64_t shapes[][2] = {{1, 4}, {97, 768}, {700, 132}, {3, 1000}, {5000, 8}};
    for (const auto& [rows, n] : shapes)
        for (const DType type : kFloats) {
            Array x = Array::random(type, {rows, n}, rng, 1, rows % 2 * 4), into = Array::random(DType::f32, {n}, rng), none;
            check(BOTH(sum), {&x, &none}, {Array(DType::f32, {n})}, &attrs, rows > 1000 ? 16 : 2);
            check(BOTH(sum), {&x, &into}, {Array(DType::f32, {n})}, &attrs, rows > 1000 ? 16 : 2);
        }
}

#ifndef DS_TEST_DEVICE
TEST_CASE("sum/scattered_axes_are_left_to_the_oracle") {
    Rng rng(12);
    const Reduce attrs{{0, 2}, false};
    Array x = dense(rng, {3, 4, 5}), none, y(DType::f32, {4});
    std::vector<Tensor> in = {x.tensor(), none.tensor()}, out = {y.tensor()};
    CHECK(std::string(cpu::sum.begin()->declines(Request{in, out, &attrs, 1})) == "the reduced axes are not adjacent");
}
#endif

TEST_CASE("moves/transpose_slice_split_concat_broadcast_copy_equal_the_oracle") {
    Rng rng(13);
    const DType types[] = {DType::f32, DType::bf16, DType::u8, DType::i64, DType::i32};
    for (int trial = 0; trial < 60; ++trial) {
        const DType type = types[pick(rng, 0, 4)];
        const int rank = static_cast<int>(pick(rng, 1, 4));
        std::vector<int64_t> dims;
        for (int i = 0; i < rank; ++i) dims.push_back(pick(rng, 1, rank > 2 ? 12 : 70));
        Array x = Array::random(type, dims, rng, 50, any_gap(rng));
        check(BOTH(copy), {&x}, {Array(type, dims, any_gap(rng))});

        Permute permute;
        std::vector<int64_t> permuted;
        for (int i = 0; i < rank; ++i) permute.perm.push_back(i);
        std::shuffle(permute.perm.begin(), permute.perm.end(), rng);
        for (int64_t p : permute.perm) permuted.push_back(dims[static_cast<size_t>(p)]);
        check(BOTH(transpose), {&x}, {Array(type, permuted, any_gap(rng))}, &permute);

        const int64_t axis = pick(rng, 0, rank - 1), n = dims[static_cast<size_t>(axis)], begin = pick(rng, 0, n - 1),
                      end = pick(rng, begin + 1, n);
        const auto with = [&](int64_t length) {
            std::vector<int64_t> v = dims;
            v[static_cast<size_t>(axis)] = length;
            return v;
        };
        const Slice slice{axis - (trial % 2 ? rank : 0), trial % 3 ? begin : begin - n, end};
        check(BOTH(slice), {&x}, {Array(type, with(end - begin), any_gap(rng))}, &slice);
        const Split split{axis, {begin + 1, n + 3 - begin}};
        Array whole = Array::random(type, with(n + 4), rng, 50, any_gap(rng));
        check(BOTH(split), {&whole}, {Array(type, with(begin + 1), any_gap(rng)), Array(type, with(n + 3 - begin), any_gap(rng))}, &split);
        Array other = Array::random(type, with(5), rng, 50, any_gap(rng));
        const Axis concat{axis};
        check(BOTH(concat), {&x, &other, &x}, {Array(type, with(2 * n + 5), any_gap(rng))}, &concat);

        std::vector<int64_t> narrow = dims;
        for (int64_t& v : narrow)
            if (pick(rng, 0, 1)) v = 1;
        narrow.erase(narrow.begin(), narrow.begin() + pick(rng, 0, rank - 1));
        Array small = Array::random(type, narrow, rng, 50, any_gap(rng));
        check(BOTH(broadcast), {&small}, {Array(type, dims, any_gap(rng))});
        const Fill fill{3, dims, type};
        check(BOTH(fill), {}, {Array(type, dims, any_gap(rng))}, &fill);
    }
}

TEST_CASE("moves/large_copies_divide_among_the_team") {
    Rng rng(14);
    Array x = Array::random(DType::f32, {300000}, rng);
    check(BOTH(copy), {&x}, {Array(DType::f32, {300000})});
    Array wide = Array::random(DType::bf16, {2, 70000}, rng, 1, 3);
    check(BOTH(copy), {&wide}, {Array(DType::bf16, {2, 70000})});
    const Permute reverse;
    Array matrix = Array::random(DType::f32, {257, 190}, rng);
    check(BOTH(transpose), {&matrix}, {Array(DType::f32, {190, 257})}, &reverse);
}

#ifndef DS_TEST_DEVICE
TEST_CASE("moves/copies_past_the_caches_are_exact_at_any_address") {
    std::vector<uint8_t> from(20000), to(20000);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i * 7 + i / 256);
    for (const size_t n : {0, 1, 63, 64, 65, 200, 4096, 9999})
        for (const size_t shift : {0, 1, 4, 63}) {
            std::fill(to.begin(), to.end(), uint8_t{0xee});
            cpu::copy_far(from.data() + 3, to.data() + shift, static_cast<int64_t>(n));
            CHECK(std::equal(to.begin() + static_cast<int64_t>(shift), to.begin() + static_cast<int64_t>(shift + n), from.begin() + 3));
            CHECK(std::count(to.begin(), to.begin() + static_cast<int64_t>(shift), 0xee) == static_cast<int64_t>(shift));
            CHECK(std::count(to.begin() + static_cast<int64_t>(shift + n), to.end(), 0xee) == static_cast<int64_t>(to.size() - shift - n));
        }
}

TEST_CASE("logits/the_first_of_the_largest_is_found") {
    std::mt19937 rng(9);
    for (const int64_t n : {1, 2, 15, 16, 17, 64, 97, 1000}) {
        std::vector<float> x(static_cast<size_t>(n));
        for (float& v : x) v = static_cast<float>(static_cast<int>(rng() % 40) - 30);  // with ties
        const auto most = std::max_element(x.begin(), x.end());
        CHECK(cpu::place_of_largest(x.data(), n) == most - x.begin());
        CHECK(cpu::largest_of(x.data(), n) == *most);
        std::vector<float> less = x;
        cpu::take_off(less.data(), n, 1.0 / 3);
        for (size_t i = 0; i < x.size(); ++i) CHECK(less[i] == static_cast<float>(static_cast<double>(x[i]) - 1.0 / 3));
    }
    const std::vector<float> none(40, -INFINITY);
    CHECK(cpu::place_of_largest(none.data(), 40) == 0);
}
#endif

TEST_CASE("embedding/rows_and_their_gradient_equal_the_oracle") {
    Rng rng(15);
    for (int trial = 0; trial < 30; ++trial) {
        const int64_t rows = pick(rng, 1, 40), n = trial % 5 ? pick(rng, 1, 100) : pick(rng, 1000, 3000), tokens = pick(rng, 1, 60);
        Array table = any_array(rng, {rows, n}), ids(DType::i32, {tokens}), dy = any_array(rng, {tokens, n}), none;
        for (int64_t i = 0; i < tokens; ++i) ids.set(i, static_cast<double>(pick(rng, -1, rows - 1)));
        check(BOTH(embedding), {&table, &ids}, {blank(rng, dy)});
        const Rows attrs{rows};
        Array into = Array::random(DType::f32, {rows, n}, rng);
        check(BOTH(embedding_grad), {&dy, &ids, trial % 2 ? &into : &none}, {Array(DType::f32, {rows, n})}, &attrs, 2);
        Array expected(DType::f32, {rows, n});
        test::run_kernel(cpu::embedding_grad, {&dy, &ids, &into}, {&expected}, &attrs);
        test::run_kernel(cpu::embedding_grad, {&dy, &ids, &into}, {&into}, &attrs, {2});
        CHECK(test::bit_equal(into, expected));
    }
}

TEST_CASE("embedding/the_gradient_of_ids_that_come_often_and_of_rows_of_fours_equals_the_oracle") {
    Rng rng(23);
    struct Case {
        int64_t tokens, rows, columns, dy_gap;
        int often;  // of ten tokens have id 1
    };
    // Runs of no more than 4 tokens, of 16, of 32 and of thousands; rows of whole fours, and not; more ids than lie in shared memory at a
    // time.
    for (const Case c : {Case{33, 9, 8, 0, 0}, Case{64, 2, 132, 0, 5}, Case{130, 3, 132, 4, 5}, Case{130, 3, 132, 1, 5},
                         Case{129, 1, 7, 0, 10}, Case{8300, 5000, 4, 0, 3}, Case{8193, 3, 5, 0, 9}})
        for (const DType type : kFloats) {
            if (c.tokens > 1000 && type == DType::f16) continue;  // the slow ones, once for 16 bits
            Array ids(DType::i32, {c.tokens}), none;
            const Array dy = Array::random(type, {c.tokens, c.columns}, rng, 1, c.dy_gap);
            for (int64_t i = 0; i < c.tokens; ++i)
                ids.set(i, static_cast<double>(pick(rng, 0, 9) < c.often ? 1 : pick(rng, -2, c.rows + 1)));
            const Rows attrs{c.rows, c.rows - 1};
            const Array into = Array::random(DType::f32, {c.rows, c.columns}, rng);
            for (const int64_t gap : {0, 4, 3})
                check(BOTH(embedding_grad), {&dy, &ids, gap ? &into : &none}, {Array(DType::f32, {c.rows, c.columns}, gap)}, &attrs, 8);
            // In the order of tokens, one after the other, in f32: the same bits.
            std::vector<float> sums(static_cast<size_t>(c.rows * c.columns));
            for (int64_t i = 0; i < into.count(); ++i) sums[static_cast<size_t>(i)] = static_cast<float>(into.get(i));
            for (int64_t i = 0; i < c.tokens * c.columns; ++i) {
                const auto id = static_cast<int64_t>(ids.get(i / c.columns));
                if (id >= 0 && id < c.rows - 1) sums[static_cast<size_t>(id * c.columns + i % c.columns)] += static_cast<float>(dy.get(i));
            }
            Array y(DType::f32, {c.rows, c.columns});
            test::run_kernel(cpu::embedding_grad, {&dy, &ids, &into}, {&y}, &attrs);
            bool same = true;
            for (int64_t i = 0; i < y.count(); ++i) same = same && static_cast<float>(y.get(i)) == sums[static_cast<size_t>(i)];
            CHECK(same);
        }
}

TEST_CASE("rope/equals_the_oracle_and_its_inverse_undoes_it") {
    Rng rng(16);
    for (int trial = 0; trial < 40; ++trial) {
        const int64_t heads = pick(rng, 1, 4), head_dim = 2 * pick(rng, 1, 40), batch = pick(rng, 1, 3), length = pick(rng, 1, 9);
        const int rank = static_cast<int>(pick(rng, 2, 4));
        const std::vector<int64_t> dims = rank == 2   ? std::vector<int64_t>{batch * length, heads * head_dim}
                                          : rank == 3 ? std::vector<int64_t>{batch, length, heads * head_dim}
                                                      : std::vector<int64_t>{batch, length, heads, head_dim};
        Array x = any_array(rng, dims), none;
        Rope attrs{head_dim, 10000, trial % 2 == 1, trial % 3 == 1};
        check(BOTH(rope), {&x, &none}, {blank(rng, x)}, &attrs);

        RopeAngles angle_attrs;
        for (int64_t j = 0; j < (trial % 4 ? head_dim / 2 : (head_dim + 2) / 4); ++j)
            angle_attrs.inv_freq.push_back(std::pow(500000.0, -static_cast<double>(j) / 8));
        angle_attrs.scale = 1.1;
        const int64_t pairs = static_cast<int64_t>(angle_attrs.inv_freq.size());
        Array positions(DType::i32, {batch * length}), angles(DType::f32, {batch * length, 2 * pairs});
        for (int64_t i = 0; i < positions.count(); ++i) positions.set(i, static_cast<double>(pick(rng, 0, 100000)));
        check(BOTH(rope_angles), {&positions}, {angles}, &angle_attrs);
        test::run_kernel(ref::rope_angles, {&positions}, {&angles}, &angle_attrs);
        check(BOTH(rope), {&x, &angles}, {blank(rng, x)}, &attrs);
    }
    const Rope forward{8, 10000, false, false}, backward{8, 10000, false, true};
    Array x = Array::random(DType::f32, {5, 16}, rng), y(DType::f32, {5, 16}), z(DType::f32, {5, 16}), none;
    test::run_kernel(cpu::rope, {&x, &none}, {&y}, &forward);
    test::run_kernel(cpu::rope, {&y, &none}, {&z}, &backward);
    CHECK(test::error(z, x) < 1e-6);
    CHECK(test::error(y, x) > 0.1);
}

TEST_CASE("dropout/draws_are_those_of_uniform_draw_bit_for_bit") {
    Rng rng(17);
    for (int trial = 0; trial < 20; ++trial) {
        const std::vector<int64_t> dims = {pick(rng, 1, 9), pick(rng, 1, 300)};
        Array x = any_array(rng, dims), none, tokens(DType::i32, {dims[0]});
        for (int64_t i = 0; i < dims[0]; ++i) tokens.set(i, static_cast<double>(pick(rng, 0, 2000000000)));
        Runtime runtime;
        runtime.seed = (uint64_t{rng()} << 32) | rng();
        runtime.step = trial % 2 ? uint64_t{rng()} << 20 : 7;
        const Dropout attrs{trial % 3 ? 0.1 : 0.5, pick(rng, 0, 1000)};
        for (Array& a : std::vector<Array>(1, x))
            check(BOTH(dropout), {&a, trial % 2 ? &tokens : &none}, {blank(rng, x)}, &attrs, 1, runtime);
    }
    const Dropout half{0.5, 3};  // a row that crosses 2^32 draws
    Array ones(DType::f32, {1, 3000000}), y(DType::f32, {1, 3000000}), token = Array::of(DType::i32, {1}, {1431});
    ones.fill(1);
    Runtime runtime;
    test::run_kernel(cpu::dropout, {&ones, &token}, {&y}, &half, {2, runtime});
    double sum = 0;
    bool same = true;
    for (int64_t i = 0; i < 3000000; ++i) {
        sum += y.get(i);
        if (i > 1960000 && i < 1980000)
            same &= (uniform_draw(runtime, 3, 1431ull * 3000000 + static_cast<uint64_t>(i)) >= 0.5f) == (y.get(i) != 0);
    }
    CHECK(same);
    CHECK(sum / 3000000 == doctest::Approx(1).epsilon(0.003));
}

#ifndef DS_TEST_DEVICE
TEST_CASE("level/obeys_the_environment") {
    if (const char* forced = std::getenv("DSRT_CPU"))
        CHECK(cpu::level() <= (std::string(forced) == "sse2"   ? cpu::Level::baseline
                               : std::string(forced) == "avx2" ? cpu::Level::avx2
                                                               : cpu::Level::amx_bf16));
}
#endif
