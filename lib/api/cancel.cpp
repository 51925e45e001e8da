// ds_cancel_*: apart from the other handles, because ds_cancel_set must be callable from a signal handler: no lock, no memory, no lookup.
// So the block behind a ds_cancel is never given back to the heap, and says itself whether it is alive; blocks are used again, oldest
// first.
#include "api/cancel.h"

#include <unistd.h>

#include <deque>
#include <map>
#include <mutex>

#include "api/guard.h"
#include "base/per_process.h"

using namespace ds;
using namespace ds::api;

namespace {

constexpr uint64_t kLive = 0x6c65636e61637364, kDestroyed = 0x656e6f6765636e6f;
constexpr size_t kRest = 1024;  // destroyed blocks that stay unused, so that their addresses don't come back at once

struct Block {
    std::atomic<uint64_t> magic{kLive};
    std::atomic<pid_t> pid{getpid()};
    CancelFlag flag;
};

struct Pool {
    std::mutex mutex;
    std::map<const void*, std::shared_ptr<Block>> live;
    std::deque<std::shared_ptr<Block>> resting;  // destroyed, in that order; engines may still refer to them
    explicit Pool(bool /*forked*/) {}
};
constinit PerProcess<Pool> process;

Status check(const ds_cancel* c) {
    const auto* block = reinterpret_cast<const Block*>(c);
    const uint64_t magic = block->magic.load(std::memory_order_relaxed);
    if (magic == kDestroyed) return fail(Code::E_STATE, "c: this ds_cancel was destroyed");
    DS_REQUIRE(magic == kLive, "c: {} is not a ds_cancel", fmt::ptr(c));
    if (block->pid != getpid()) return fail(Code::E_STATE, "c: this ds_cancel belongs to the parent of this forked process");
    return ok();
}

}  // namespace

Result<std::shared_ptr<CancelFlag>> ds::api::flag_of(ds_cancel* c) {
    DS_NOT_NULL(c);
    DS_CHECK(check(c));
    Pool& pool = process.get();
    const std::lock_guard lock(pool.mutex);
    const auto row = pool.live.find(c);
    DS_REQUIRE(row != pool.live.end(), "c: {} is not a ds_cancel", fmt::ptr(c));
    const std::shared_ptr<Block>& block = row->second;
    return std::shared_ptr<CancelFlag>(block, &block->flag);
}

ds_status ds_cancel_create(ds_cancel** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        Pool& pool = process.get();
        const std::lock_guard lock(pool.mutex);
        std::shared_ptr<Block> block;
        if (pool.resting.size() > kRest && pool.resting.front().use_count() == 1) {
            block = pool.resting.front();
            pool.resting.pop_front();
            block->flag.raised = 0;
        } else {
            block = std::make_shared<Block>();
        }
        pool.live[block.get()] = block;
        block->magic = kLive;
        *out = reinterpret_cast<ds_cancel*>(block.get());
        return ok();
    });
}

ds_status ds_cancel_set(ds_cancel* c, int32_t on) {
    if (!c) return fail_with_literal(DS_E_INVALID_ARGUMENT, "c must not be NULL");
    auto* block = reinterpret_cast<Block*>(c);
    const uint64_t magic = block->magic.load(std::memory_order_relaxed);
    if (magic == kDestroyed) return fail_with_literal(DS_E_STATE, "c: this ds_cancel was destroyed");
    if (magic != kLive) return fail_with_literal(DS_E_INVALID_ARGUMENT, "c: not a ds_cancel");
    if (block->pid.load(std::memory_order_relaxed) != getpid())
        return fail_with_literal(DS_E_STATE, "c: this ds_cancel belongs to the parent of this forked process");
    if (on != 0 && on != 1) return fail_with_literal(DS_E_INVALID_ARGUMENT, "on must be 0 or 1");
    block->flag.set(on != 0);
    return DS_OK;
}

void ds_cancel_destroy(ds_cancel* c) {
    if (!c) return;
    guard(
        [&]() -> Status {
            DS_CHECK(check(c));
            Pool& pool = process.get();
            const std::lock_guard lock(pool.mutex);
            const auto row = pool.live.find(c);
            if (row == pool.live.end()) return ok();
            row->second->magic = kDestroyed;
            pool.resting.push_back(std::move(row->second));
            pool.live.erase(row);
            return ok();
        },
        Report::nothing);
}
