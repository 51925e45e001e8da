#include "comm/communicator.h"

#include <vector>

namespace ds {

Status Communicator::all_gather(Block send, std::span<const Block> receive, Team team) {
    const std::vector<Block> to_all(static_cast<size_t>(size_), send);
    return all_to_all(to_all, receive, team);
}

void Links::note(const Status& status) {
    if (status.ok()) return;
    std::lock_guard lock(mutex_);
    if (status_.ok()) status_ = status;
    failed_.store(true, std::memory_order_release);
}

Status Links::status() const {
    std::lock_guard lock(mutex_);
    return status_;
}

void Links::abort(const Status& why) {
    note(why);
    for (auto& group : axis)
        if (group) group->abort(why);
}

void Links::clear() {
    for (auto& group : axis) group.reset();
    std::lock_guard lock(mutex_);
    status_ = {};
    failed_.store(false, std::memory_order_release);
}

}  // namespace ds
