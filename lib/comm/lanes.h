// Lanes within one process: a send and a receive find each other, and whoever comes second copies.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <tuple>

#include "comm/transport.h"

namespace ds {

class Lanes : public std::enable_shared_from_this<Lanes> {
public:
    using Key = std::tuple<int, int, uint32_t>;  // from, to, lane

    Transport::Start send(const Key& key, const void* data, size_t bytes) { return post(key, true, const_cast<void*>(data), bytes); }
    Transport::Start receive(const Key& key, void* data, size_t bytes) { return post(key, false, data, bytes); }
    void abort(const Status& why) {
        std::lock_guard lock(mutex_);
        if (failure_.ok()) failure_ = why;
        changed_.notify_all();
    }

private:
    struct Half {
        bool sends = false;
        void* data = nullptr;
        size_t bytes = 0;
        bool done = false;
        Status status;
    };
    struct Posted : Transport::Pending {
        Posted(std::shared_ptr<Lanes> lanes, Key key, std::shared_ptr<Half> half)
            : lanes_(std::move(lanes)), key_(key), half_(std::move(half)) {}
        ~Posted() override {
            std::lock_guard lock(lanes_->mutex_);
            std::erase(lanes_->waiting_[key_], half_);
        }
        bool done() override {
            std::lock_guard lock(lanes_->mutex_);
            return half_->done;
        }
        Status wait(Transport::Clock::time_point until) override {
            std::unique_lock lock(lanes_->mutex_);
            const bool came = lanes_->changed_.wait_until(lock, until, [&] { return half_->done || !lanes_->failure_.ok(); });
            if (half_->done) return half_->status;
            return came ? lanes_->failure_ : fail(Code::E_TIMEOUT, "nothing came");
        }
        const std::shared_ptr<Lanes> lanes_;
        const Key key_;
        const std::shared_ptr<Half> half_;
    };

    Transport::Start post(const Key& key, bool sends, void* data, size_t bytes) {
        auto half = std::make_shared<Half>(Half{sends, data, bytes, false, {}});
        std::lock_guard lock(mutex_);
        if (!failure_.ok()) return failure_;
        auto& queue = waiting_[key];
        if (!queue.empty() && queue.front()->sends != sends) {
            const std::shared_ptr<Half> other = queue.front();
            queue.pop_front();
            Half &from = sends ? *half : *other, &to = sends ? *other : *half;
            if (from.bytes != to.bytes)
                from.status = to.status = fail(Code::E_COMM, "a message of {} bytes came where {} were expected", from.bytes, to.bytes);
            else if (from.bytes) std::memcpy(to.data, from.data, from.bytes);
            from.done = to.done = true;
            changed_.notify_all();
        } else {
            queue.push_back(half);
        }
        return std::unique_ptr<Transport::Pending>(std::make_unique<Posted>(shared_from_this(), key, half));
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<Key, std::deque<std::shared_ptr<Half>>> waiting_;
    Status failure_;
};

}  // namespace ds
