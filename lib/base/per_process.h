// PerProcess: state that the whole process shares, made when it is first asked for and never destroyed (threads may still use it while the
// process ends). A forked child begins anew: in the parent's, a thread that the child doesn't have may hold the mutex.
#pragma once

#include <unistd.h>

#include <atomic>
#include <memory>

namespace ds {

// T is made with T(bool forked): whether there was one of the parent's. A PerProcess is a constinit variable; it does no work at load time.
template <class T>
class PerProcess {
public:
    constexpr PerProcess() = default;
    T& get() {
        Owned* found = current_.load(std::memory_order_acquire);
        if (found && found->pid == getpid()) return found->value;
        auto fresh = std::make_unique<Owned>(found != nullptr);
        if (current_.compare_exchange_strong(found, fresh.get(), std::memory_order_acq_rel)) return fresh.release()->value;
        return found->value;  // another thread was faster
    }

private:
    struct Owned {
        T value;
        pid_t pid = getpid();
        explicit Owned(bool forked) : value(forked) {}
    };
    std::atomic<Owned*> current_{nullptr};
};

}  // namespace ds
