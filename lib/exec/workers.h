// Workers: the threads of one rank, pinned, that run a plan together. They spin for a moment when idle and then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "exec/places.h"
#include "kernels/kernel.h"

namespace ds {

// All threads of the team arrive, then all go on.
class Barrier {
public:
    explicit Barrier(int size) : size_(size) {}
    void arrive_and_wait();

private:
    const int size_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
};

class Workers {
public:
    static constexpr int kAnyCpu = -1;
    // first_cpu: the place of the first thread among the processors that this process may use; kAnyCpu leaves them unpinned.
    explicit Workers(int threads, int first_cpu = 0);
    explicit Workers(std::vector<Spot> spots);  // a thread each
    ~Workers();
    Workers(const Workers&) = delete;

    int size() const { return static_cast<int>(threads_.size()); }
    // Every thread runs job with its Team; returns when all are done. One caller at a time.
    void run(const std::function<void(Team)>& job);
    Barrier& barrier() { return barrier_; }

private:
    void loop(int rank, int size);

    Barrier barrier_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    alignas(64) std::atomic<uint64_t> job_number_{0};
    alignas(64) std::atomic<int> running_{0};
    const std::function<void(Team)>* job_ = nullptr;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

// Processors that this process may run on.
int usable_cpus();

}  // namespace ds
