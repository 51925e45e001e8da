// Meeting: a barrier with a deadline, for threads that may be waiting for other processes.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/pause.h"
#include "base/status.h"

namespace ds {

// Where all threads of all ranks meet. Threads may be more than processors: after a moment of spinning they give theirs away.
class Meeting {
public:
    // late: who has not come, for the message.
    Meeting(int threads, std::chrono::milliseconds deadline, std::function<std::string()> late = nullptr)
        : threads_(threads), deadline_(deadline), late_(std::move(late)) {}

    Status meet() {
        if (aborted_.load(std::memory_order_acquire)) return why();
        const uint32_t generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            generation_.fetch_add(1, std::memory_order_release);
            return ok();
        }
        const auto begin = std::chrono::steady_clock::now();
        for (int64_t turn = 0; generation_.load(std::memory_order_acquire) == generation; ++turn) {
            if (aborted_.load(std::memory_order_acquire)) return why();
            if (turn < kSpins) pause_spinning();
            else if (turn < kYields) std::this_thread::yield();
            else if (std::chrono::steady_clock::now() - begin > deadline_) {
                abort(fail(Code::E_TIMEOUT, "{} did not come to a collective within {} s; it is late or gone", late_ ? late_() : "a thread",
                           std::chrono::duration<double>(deadline_).count()));
            } else std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        return ok();
    }

    void abort(const Status& reason) {
        std::lock_guard lock(mutex_);
        if (!aborted_.load()) reason_ = reason;
        aborted_.store(true, std::memory_order_release);
    }
    bool aborted() const { return aborted_.load(std::memory_order_acquire); }
    Status why() const {
        std::lock_guard lock(mutex_);
        return reason_;
    }

private:
    static constexpr int64_t kSpins = 2000, kYields = 3000;
    const int threads_;
    const std::chrono::milliseconds deadline_;
    const std::function<std::string()> late_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
    std::atomic<bool> aborted_{false};
    mutable std::mutex mutex_;
    Status reason_;
};

}  // namespace ds
