// A device's part in groups of devices. NCCL carries bytes from device to device; sums are our own, in the order of ranks and in f32, so
// that they have the bits that every other backend of lib/comm gives, and parts may differ in size.
//
// Communicators do not block: whatever waits looks, again and again, whether something ended the group or an exchange is overdue, and
// aborts then.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "device/backend.h"
#include "kernels/cuda/queue.h"
#include "base/dtype.h"

namespace ds::cuda {

// Loads NCCL, once. E_UNSUPPORTED tells what was looked for and why it did not do.
Status load_nccl(int& version);
Status make_group_id(BackendGroupId& id);

class Member {
public:
    // Waits for the other members.
    static Result<std::unique_ptr<Member>> join(Queue& queue, const BackendGroup& group);
    ~Member();
    Member(const Member&) = delete;

    // All queue; blocks as for BackendTable.
    Status exchange(const BackendBlock* send, const BackendBlock* receive);
    Status reduce_scatter(const BackendBlock* send, BackendBlock out, DType dtype);
    Status all_reduce(BackendBlock data, DType dtype);

    Status look();  // whether to go on waiting
    void abort();   // what was queued ends, with anything as results

private:
    using Clock = std::chrono::steady_clock;
    struct Slot {  // of a call: events before and behind it
        cudaEvent_t begun = nullptr, done = nullptr;
    };
    static constexpr int64_t kSlots = 32;

    Member(Queue& queue, const BackendGroup& group) : queue_(queue), group_(group) {}
    Status make();
    Status begin();
    Status end();
    // Queues work beside the device's kernels. Where the caller is not beside them already, what it queues next waits for that work.
    template <class F>
    Status beside(const F& work);
    Status settle(const char* doing);
    void leave();
    Status trouble(int64_t overdue);
    Status send_and_receive(const BackendBlock* send, const BackendBlock* receive);
    Status sum_parts(const BackendBlock* send, BackendBlock out, DType dtype);
    Status sum_everywhere(BackendBlock data, DType dtype);
    Result<std::byte*> scratch(int64_t bytes);
    Slot& slot(int64_t call) { return slots_[call % kSlots]; }

    Queue& queue_;
    const BackendGroup group_;
    struct ncclComm* comm_ = nullptr;
    bool joined_ = false, counted_ = false;  // counted: among those of this process that will leave
    Slot slots_[kSlots];
    int64_t queued_ = 0, passed_ = 0;         // calls, of which the device has done so many
    std::optional<Clock::time_point> since_;  // when the device was first seen in the next one
    std::vector<void*> memory_;               // scratch; what it has outgrown is kept until the end, as the device may be using it
    int64_t room_ = 0;
};

// sum_ranks.cu: out = the sum of all ranks' n elements in their order. Rank r's lie at others + r stride, but for `rank`, whose are at
// `own`, which may be `out`.
Status sum_ranks(Queue& queue, void* out, const void* own, const std::byte* others, int64_t stride, int rank, int ranks, DType dtype,
                 int64_t n);

}  // namespace ds::cuda
