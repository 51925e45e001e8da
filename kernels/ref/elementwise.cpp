// add, sub, mul, div with numpy broadcasting; exp, log, sqrt, scale, cast.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

// The element of t that numpy's broadcasting pairs with element i of y.
int64_t partner(const Tensor& t, const Tensor& y, int64_t i) {
    int64_t index = 0, stride = 1;
    for (int a = t.rank - 1, b = y.rank - 1; b >= 0; --a, --b) {
        const int64_t at = i % y.dims[b];
        i /= y.dims[b];
        if (a < 0) continue;
        if (t.dims[a] != 1) index += at * stride;
        stride *= t.dims[a];
    }
    return index;
}

template <double (*f)(double, double)>
void binary(const Call& c) {
    const Tensor& y = c.out[0];
    for (int64_t i = 0; i < y.count(); ++i) set(y, i, f(get(c.in[0], partner(c.in[0], y, i)), get(c.in[1], partner(c.in[1], y, i))));
}
double plus(double a, double b) { return a + b; }
double minus(double a, double b) { return a - b; }
double times(double a, double b) { return a * b; }
double over(double a, double b) { return a / b; }

template <double (*f)(double)>
void unary(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) set(c.out[0], i, f(get(c.in[0], i)));
}

void scaled(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) set(c.out[0], i, get(c.in[0], i) * c.attr<Scale>().factor);
}

void casted(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i) move(c.in[0], i, c.out[0], i);
}

constexpr KernelImpl kAdd[] = {plain<binary<plus>>()}, kSub[] = {plain<binary<minus>>()}, kMul[] = {plain<binary<times>>()},
                     kDiv[] = {plain<binary<over>>()};
constexpr KernelImpl kExp[] = {plain<unary<std::exp>>()}, kLog[] = {plain<unary<std::log>>()}, kSqrt[] = {plain<unary<std::sqrt>>()};
constexpr KernelImpl kScale[] = {plain<scaled>()}, kCast[] = {plain<casted>()};

}  // namespace

const KernelList add{kAdd}, sub{kSub}, mul{kMul}, div{kDiv}, exp{kExp}, log{kLog}, sqrt{kSqrt}, scale{kScale}, cast{kCast};

}  // namespace ds::ref
