// A host's own communicator. Its functions run on threads that are inside a call of the ABI only, one at a time; what ranks' threads want
// is queued for them.
#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "comm/transport.h"

namespace ds {
namespace {

struct Wish {
    bool sends = false;
    int peer = 0;
    uint32_t lane = 0;
    void* data = nullptr;
    size_t bytes = 0;
    bool busy = false, done = false;
    Status status;
};

struct Desk {
    explicit Desk(HostedCallbacks given) : callbacks(std::move(given)) {}

    const HostedCallbacks callbacks;
    std::mutex mutex;
    std::condition_variable changed;
    std::list<std::shared_ptr<Wish>> wishes;  // in order of arrival
    Status failure;

    bool has_sends() {
        std::lock_guard lock(mutex);
        return failure.ok() && std::any_of(wishes.begin(), wishes.end(), [](const auto& wish) { return wish->sends; });
    }
    // Tries every wish once; waits a moment for the first receive if nothing moved.
    void serve_once() {
        bool moved = false;
        std::unique_lock lock(mutex);
        std::vector<std::shared_ptr<Wish>> now(wishes.begin(), wishes.end());
        lock.unlock();
        for (const auto& wish : now) moved |= attempt(*wish, 0);
        if (moved) return;
        for (const auto& wish : now)
            if (!wish->sends) return void(attempt(*wish, 1));
        lock.lock();
        changed.wait_for(lock, std::chrono::microseconds(200));
    }
    bool attempt(Wish& wish, int wait_ms) {
        {
            std::lock_guard lock(mutex);
            if (wish.done || wish.busy || !failure.ok()) return false;
            wish.busy = true;
        }
        Status status = wish.sends ? callbacks.send(wish.peer, wish.lane, wish.data, wish.bytes)
                                   : callbacks.receive(wish.peer, wish.lane, wish.data, wish.bytes, wait_ms);
        std::lock_guard lock(mutex);
        wish.busy = false;
        changed.notify_all();
        if (status.code() == Code::PENDING) return false;
        wish.done = true;
        wish.status = status.ok() ? ok() : std::move(status);
        wishes.remove_if([&](const auto& w) { return w.get() == &wish; });
        return true;
    }
};

class HostedPending : public Transport::Pending {
public:
    HostedPending(std::shared_ptr<Desk> desk, std::shared_ptr<Wish> wish) : desk_(std::move(desk)), wish_(std::move(wish)) {}
    ~HostedPending() override {
        std::unique_lock lock(desk_->mutex);
        desk_->changed.wait(lock, [&] { return !wish_->busy; });
        wish_->done = true;
        desk_->wishes.remove(wish_);
    }
    bool done() override {
        std::lock_guard lock(desk_->mutex);
        return wish_->done;
    }
    Status wait(Transport::Clock::time_point until) override {
        const bool serves = LogCall::inside();
        std::unique_lock lock(desk_->mutex);
        while (!wish_->done) {
            if (!desk_->failure.ok()) return desk_->failure;
            if (Transport::Clock::now() > until) return fail(Code::E_TIMEOUT, "process {} did not answer in time", wish_->peer);
            if (serves) {
                lock.unlock();
                desk_->serve_once();
                lock.lock();
            } else {
                desk_->changed.wait_for(lock, std::chrono::milliseconds(50));
            }
        }
        return wish_->status;
    }

private:
    const std::shared_ptr<Desk> desk_;
    const std::shared_ptr<Wish> wish_;
};

class Hosted : public Transport {
public:
    explicit Hosted(HostedCallbacks callbacks)
        : Transport(callbacks.rank, callbacks.size), desk_(std::make_shared<Desk>(std::move(callbacks))) {}

    Start send(int to, uint32_t lane, const void* data, size_t bytes) override {
        return wish(true, to, lane, const_cast<void*>(data), bytes);
    }
    Start receive(int from, uint32_t lane, void* data, size_t bytes) override { return wish(false, from, lane, data, bytes); }
    void abort(const Status& why) override {
        {
            std::lock_guard lock(desk_->mutex);
            if (!desk_->failure.ok()) return;
            desk_->failure = why;
            desk_->changed.notify_all();
        }
        untold_ = true;  // a thread that serves tells the host
    }
    void on_failure(std::function<void(const Status&)>) override {}
    bool wants_caller() const override { return true; }
    void serve(const std::function<bool()>& over) override {
        while (!over() || desk_->has_sends()) desk_->serve_once();
        if (untold_.exchange(false) && desk_->callbacks.abort) desk_->callbacks.abort(desk_->failure);
    }

private:
    Start wish(bool sends, int peer, uint32_t lane, void* data, size_t bytes) {
        auto made = std::make_shared<Wish>(Wish{sends, peer, lane, data, bytes, false, false, {}});
        {
            std::lock_guard lock(desk_->mutex);
            if (!desk_->failure.ok()) return desk_->failure;
            desk_->wishes.push_back(made);
            desk_->changed.notify_all();
        }
        return std::unique_ptr<Pending>(std::make_unique<HostedPending>(desk_, std::move(made)));
    }

    const std::shared_ptr<Desk> desk_;
    std::atomic<bool> untold_{false};
};

}  // namespace

std::unique_ptr<Transport> hosted_transport(HostedCallbacks callbacks) { return std::make_unique<Hosted>(std::move(callbacks)); }

}  // namespace ds
