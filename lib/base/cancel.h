// CancelFlag: a switch that any thread or signal handler may set, and that long calls look at at safe points.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace ds {

struct CancelFlag {
    std::atomic<int32_t> raised{0};
    std::shared_ptr<const CancelFlag> parent;  // an engine's own flag beside the host's, which many engines may share; set once

    bool on() const { return raised.load(std::memory_order_relaxed) != 0 || (parent && parent->on()); }
    void set(bool value) { raised.store(value, std::memory_order_relaxed); }
};
static_assert(std::atomic<int32_t>::is_always_lock_free);  // signal handlers store to it

}  // namespace ds
