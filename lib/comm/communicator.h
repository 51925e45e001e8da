// Communicator: one rank's end of a group of ranks that exchange memory. A backend is one class with these calls; all pass
// tests/unit/comm.cpp.
//
// Every thread of a rank's team makes the collective calls, in the same order on every rank and with the same arguments within a team; when
// one returns, the result stands and the memory that was sent may be reused. send and receive are called by one thread. Sums are taken in
// the order of ranks, in f32 (f64 for f64), whatever the backend: the same layout gives the same bits.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "base/mesh.h"

namespace ds {

struct Block {
    void* data = nullptr;
    int64_t bytes = 0;
};

class Communicator {
public:
    virtual ~Communicator() = default;
    int rank() const { return rank_; }
    int size() const { return size_; }

    // send[i] goes to rank i, receive[i] is what rank i sent here; sizes may differ and be 0.
    virtual Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) = 0;
    // out = the sum over ranks of their send[rank()]. All blocks hold elements of `dtype`.
    virtual Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) = 0;
    // data = the sum over ranks, in place, everywhere.
    virtual Status all_reduce(Block data, DType dtype, Team team) = 0;
    // receive[i] is rank i's `send`. receive[rank()] may be `send` itself.
    virtual Status all_gather(Block send, std::span<const Block> receive, Team team);

    // Messages of one (sender, tag) arrive in order; sending does not wait for the receiver.
    virtual Status send(int to, int64_t tag, Block data) = 0;
    virtual Status receive(int from, int64_t tag, Block data) = 0;

    // This, or where the ranks' memory lies on devices, one for memory of the host's: messages between processes.
    virtual Communicator& for_host_memory() { return *this; }

    // Ends every rank's present and later calls in this group with `why`.
    virtual void abort(const Status& why) = 0;

protected:
    Communicator(int rank, int size) : rank_(rank), size_(size) {}

private:
    const int rank_, size_;
};

// Where a plan's `fetch` nodes get weights that lie on disk: slots in the order in which the plan has them.
class WeightSource {
public:
    virtual ~WeightSource() = default;
    virtual Status fetch(int64_t slot, void* to, int64_t bytes) = 0;  // by one thread
};

// A rank's ends of its groups along every axis, as kernels reach them through Runtime. The first failure is kept.
class Links {
public:
    std::array<std::unique_ptr<Communicator>, kAxes + 1> axis;  // the last: of the data ranks with the same experts. Null: a group of one
    WeightSource* source = nullptr;                             // null: all weights lie in memory

    Communicator* operator[](int64_t i) const { return axis[static_cast<size_t>(i)].get(); }
    void note(const Status& status);  // any thread
    bool failed() const { return failed_.load(std::memory_order_acquire); }
    Status status() const;
    void abort(const Status& why);
    void clear();  // forgets groups and failure

private:
    std::atomic<bool> failed_{false};
    mutable std::mutex mutex_;
    Status status_;
};

// A group of threads of this process: shared memory, no copies beyond the result. name and ranks, those of the job: for messages. One
// communicator a rank comes back.
std::vector<std::unique_ptr<Communicator>> local_group(std::string name, std::vector<int> ranks, int threads_a_rank,
                                                       std::chrono::milliseconds deadline);

}  // namespace ds
