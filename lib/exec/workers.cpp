#include "exec/workers.h"

#include <hwloc.h>
#include <signal.h>

namespace ds {
namespace {

// About 50 microseconds: longer than the gap between two kernels or two calls of a training loop, shorter than anyone would notice.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void pin_to(int index) {
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) return;
    if (hwloc_topology_load(topology) == 0) {
        hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
        if (hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) == 0) {
            const int count = hwloc_bitmap_weight(allowed);
            int cpu = hwloc_bitmap_first(allowed);
            for (int i = 0; count > 0 && i < index % count; ++i) cpu = hwloc_bitmap_next(allowed, cpu);
            hwloc_bitmap_only(allowed, static_cast<unsigned>(cpu));
            hwloc_set_cpubind(topology, allowed, HWLOC_CPUBIND_THREAD);
        }
        hwloc_bitmap_free(allowed);
    }
    hwloc_topology_destroy(topology);
}

}  // namespace

int usable_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(CPU_COUNT(&set), 1) : 1;
}

void Barrier::arrive_and_wait() {
    const uint32_t generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        arrived_.store(0, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        return;
    }
    for (int i = 0; i < kSpins; ++i) {
        if (generation_.load(std::memory_order_acquire) != generation) return;
        pause();
    }
    generation_.wait(generation, std::memory_order_acquire);
}

Workers::Workers(int threads, int first_cpu) : barrier_(threads) {
    // The host's signals are the host's: they must never be delivered to a thread of ours.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    threads_.reserve(static_cast<size_t>(threads));
    for (int rank = 0; rank < threads; ++rank)
        threads_.emplace_back([this, rank, first_cpu] {
            if (first_cpu != kAnyCpu) pin_to(first_cpu + rank);
            loop(rank);
        });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Workers::~Workers() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        job_number_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Workers::loop(int rank) {
    uint64_t seen = 0;
    for (;;) {
        for (int i = 0; i < kSpins && job_number_.load(std::memory_order_acquire) == seen; ++i) pause();
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return job_number_.load(std::memory_order_acquire) != seen; });
            if (stop_) return;
        }
        seen = job_number_.load(std::memory_order_acquire);
        (*job_)(Team{rank, static_cast<int>(threads_.size())});
        if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            std::lock_guard lock(mutex_);
            done_.notify_all();
        }
    }
}

void Workers::run(const std::function<void(Team)>& job) {
    std::unique_lock lock(mutex_);
    job_ = &job;
    running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
    job_number_.fetch_add(1, std::memory_order_release);
    wake_.notify_all();
    done_.wait(lock, [&] { return running_.load(std::memory_order_acquire) == 0; });
}

}  // namespace ds
