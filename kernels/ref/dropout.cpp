// dropout: y = x / (1 - p) where uniform_draw(runtime, salt, token * columns + column) >= p, else 0; token is the row without `tokens`.
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

void run(const Call& c) {
    const Tensor &x = c.in[0], &tokens = c.in[1], &y = c.out[0];
    const Dropout& a = c.attr<Dropout>();
    const int64_t n = y.columns();
    for (int64_t i = 0; i < y.count(); ++i) {
        const int64_t token = tokens.present ? tokens.as<int32_t>()[i / n] : i / n;
        const float draw = uniform_draw(*c.runtime, static_cast<uint64_t>(a.salt),
                                        static_cast<uint64_t>(token) * static_cast<uint64_t>(n) + static_cast<uint64_t>(i % n));
        set(y, i, draw >= static_cast<float>(a.p) ? get(x, i) / (1 - a.p) : 0);
    }
}

constexpr KernelImpl kDropout[] = {plain<run>()};

}  // namespace

const KernelList dropout{kDropout};

}  // namespace ds::ref
