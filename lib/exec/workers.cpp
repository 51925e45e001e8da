#include "exec/workers.h"

#include <sched.h>
#include <signal.h>

#include "base/pause.h"

namespace ds {
namespace {

// About 50 microseconds: longer than the gap between two kernels or two calls of a training loop, shorter than anyone would notice.
constexpr int kSpins = 2000;

// Threads from the first-th processor on that the process may use; unbound where there are not so many.
std::vector<Spot> spots_from(int threads, int first) {
    std::vector<Spot> spots(static_cast<size_t>(threads));
    if (first == Workers::kAnyCpu) return spots;
    const auto machine = Topology::here();
    if (!machine.ok()) return spots;
    const std::vector<Spot> all = machine->deal(1, machine->usable(), 0, 1).front();
    for (int i = 0; i < threads; ++i) spots[static_cast<size_t>(i)] = all[static_cast<size_t>(first + i) % all.size()];
    return spots;
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
        pause_spinning();
    }
    generation_.wait(generation, std::memory_order_acquire);
}

Workers::Workers(int threads, int first_cpu) : Workers(spots_from(threads, first_cpu)) {}

Workers::Workers(std::vector<Spot> spots) : barrier_(static_cast<int>(spots.size())) {
    // The host's signals are the host's: they must never be delivered to a thread of ours.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    threads_.reserve(spots.size());
    for (size_t rank = 0; rank < spots.size(); ++rank)
        threads_.emplace_back([this, rank, spot = spots[rank], size = static_cast<int>(spots.size())] {
            stay_at(spot);
            loop(static_cast<int>(rank), size);
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

void Workers::loop(int rank, int size) {
    uint64_t seen = 0;
    for (;;) {
        for (int i = 0; i < kSpins && job_number_.load(std::memory_order_acquire) == seen; ++i) pause_spinning();
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return job_number_.load(std::memory_order_acquire) != seen; });
            if (stop_) return;
        }
        seen = job_number_.load(std::memory_order_acquire);
        (*job_)(Team{rank, size});
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
