// World: the processes of one job, over whatever transport joined them. It makes communicators for groups of ranks that live in several
// processes, lets processes tell each other small things, and knows when the job has ended.
//
// After a failure (a process ended or fell silent, a deadline passed, the processes disagreed) every call fails with what happened first,
// in every process.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/lanes.h"

namespace ds {

// Where a rank of a group lives.
struct Member {
    int rank = 0;  // in the job, for messages
    int process = 0;
    int local = 0;  // among the ranks of that process
};

class World : public std::enable_shared_from_this<World> {
public:
    using Clock = Transport::Clock;
    static constexpr int kMaxLocal = 1023, kChannels = 15;

    static std::shared_ptr<World> over(std::unique_ptr<Transport> transport, std::chrono::milliseconds deadline);
    ~World();

    int process() const { return transport_->rank(); }
    int processes() const { return transport_->size(); }
    std::chrono::milliseconds deadline() const { return deadline_; }

    // The end of member `mine`, of this process, in a group. name: for messages. channel (below 7) tells groups between the same ranks
    // apart.
    std::unique_ptr<Communicator> group(std::string name, std::vector<Member> members, int mine, int channel, int threads);

    // Every process tells every other one something; what[p] is process p's. `call` must be the same everywhere: that is how processes find
    // out that they are not making the same calls. Called by one thread. patient: waits as long as the others are alive; ten deadlines
    // where nobody watches over them.
    Result<std::vector<std::string>> exchange(std::string_view call, std::string mine, bool patient = false);

    void abort(const Status& why);  // by a call that fails; the first one counts
    bool failed() const { return failed_.load(std::memory_order_acquire); }
    Status failure() const;
    // Whether a call has answered with it.
    bool failure_is_told() const { return told_.load(std::memory_order_acquire); }

    bool wants_caller() const { return transport_->wants_caller(); }
    void serve(const std::function<bool()>& over) { transport_->serve(over); }

    // For communicators.
    Transport::Start send(const Member& to, int from_local, int channel, const void* data, size_t bytes);
    Transport::Start receive(const Member& from, int to_local, int channel, void* data, size_t bytes);
    // A message that nobody waits for: kept until it is gone.
    struct Letter {
        std::vector<std::byte> header, data;
        std::vector<std::unique_ptr<Transport::Pending>> pending;
    };
    void keep(std::unique_ptr<Letter> letter);

private:
    World(std::unique_ptr<Transport> transport, std::chrono::milliseconds deadline);
    void watch_letters();
    void end(const Status& why);
    Status failure_in(std::string_view call) const;

    std::unique_ptr<Transport> transport_;
    const std::chrono::milliseconds deadline_;
    std::shared_ptr<Lanes> within_;  // between ranks of this process
    uint64_t exchanges_ = 0;
    std::atomic<bool> failed_{false};
    mutable std::atomic<bool> told_{false};
    mutable std::mutex mutex_;
    Status failure_;

    std::mutex letters_mutex_;
    std::condition_variable letters_changed_;
    std::deque<std::unique_ptr<Letter>> letters_;
    bool leaving_ = false;
    std::thread postman_;
};

}  // namespace ds
