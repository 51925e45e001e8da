#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/copy_far.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/cpu/copy_far.h"
#include "kernels/cpu/level.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {

// Mapped files lie in small pages, at whose ends the processor's own prefetchers stop.
void stream(const uint8_t* x, int64_t n, uint8_t* y) {
    const hn::ScalableTag<uint8_t> d8;
    constexpr int64_t kAhead = 4096, kLine = 64;
    const auto step = static_cast<int64_t>(hn::Lanes(d8));
    if (step > kLine) return void(__builtin_memcpy(y, x, static_cast<size_t>(n)));
    int64_t i = 0;
    for (; i < n && reinterpret_cast<uintptr_t>(y + i) % kLine != 0; ++i) y[i] = x[i];
    for (; i + kLine <= n; i += kLine) {
        __builtin_prefetch(x + i + kAhead, 0, 2);
        for (int64_t j = 0; j < kLine; j += step) hn::Stream(hn::LoadU(d8, x + i + j), d8, y + i + j);
    }
    for (; i < n; ++i) y[i] = x[i];
    hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds::cpu {
namespace {
HWY_EXPORT(stream);
}  // namespace

void copy_far(const void* from, void* to, int64_t bytes) {
    level();
    HWY_DYNAMIC_DISPATCH(stream)(static_cast<const uint8_t*>(from), bytes, static_cast<uint8_t*>(to));
}

}  // namespace ds::cpu
#endif
