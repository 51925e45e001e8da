#include "api/handle.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "base/log.h"
#include "base/per_process.h"

namespace ds::api {

// All fields but the object are guarded by the registry's mutex.
class Slot {
public:
    std::string_view type;
    std::shared_ptr<void> object;
    std::function<void()> stop;
    int shared = 0, free = 0;
    bool exclusive = false, gone = false;
    bool awaited = false;  // a destroy call waits for the leases to end
    bool idle() const { return shared == 0 && free == 0 && !exclusive; }
};

namespace {

struct Block {  // what the host's pointer points to; a debugger shows the type
    char type[16];
};

constexpr size_t kRemembered = 4096;  // destroyed handles whose addresses are not handed out again

struct Registry {
    const bool forked;  // handles of the parent's may be asked for
    std::mutex mutex;
    std::condition_variable lease_ended;
    std::unordered_map<const void*, std::shared_ptr<Slot>> slots;  // null: destroyed, still remembered
    std::unordered_map<const void*, std::unique_ptr<Block>> live;
    std::deque<std::unique_ptr<Block>> remembered;
    explicit Registry(bool child) : forked(child) {}
};

constinit PerProcess<Registry> process;
Registry& registry() { return process.get(); }

}  // namespace

Result<Lease> Lease::take(const void* handle, std::string_view type, Access access, const char* argument) {
    DS_REQUIRE(handle != nullptr, "{} must not be NULL", argument);
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    const auto row = r.slots.find(handle);
    if (row == r.slots.end()) {
        if (r.forked) return fail(Code::E_STATE, "{}: this {} belongs to the parent of this forked process", argument, type);
        return fail(Code::E_INVALID_ARGUMENT, "{}: {} is not a live {}", argument, fmt::ptr(handle), type);
    }
    const std::shared_ptr<Slot>& slot = row->second;
    if (!slot) return fail(Code::E_STATE, "{}: this {} was destroyed", argument, type);
    DS_REQUIRE(slot->type == type, "{}: expected a {}, but this is a {}", argument, type, slot->type);
    if (access != Access::free && (slot->exclusive || (access == Access::exclusive && slot->shared)))
        return fail(Code::E_BUSY, "{}: this {} is in use by another call", argument, type);
    if (access == Access::free) ++slot->free;
    else if (access == Access::shared) ++slot->shared;
    else slot->exclusive = true;
    return Lease(slot, access);
}

Lease::~Lease() {
    if (!slot_) return;
    Registry& r = registry();
    std::unique_lock lock(r.mutex);
    if (access_ == Access::free) --slot_->free;
    else if (access_ == Access::shared) --slot_->shared;
    else slot_->exclusive = false;
    if (slot_->awaited && slot_->idle()) {
        slot_.reset();  // the waiting thread has a reference too: it, not this one, frees the object
        r.lease_ended.notify_all();
    }
    lock.unlock();
    slot_.reset();  // frees the object of a handle that was destroyed inside a callback
}

const std::shared_ptr<void>& Lease::object() const { return slot_->object; }

void* register_handle(std::string_view type, std::shared_ptr<void> object, std::function<void()> stop) {
    auto block = std::make_unique<Block>();
    std::memset(block->type, 0, sizeof(block->type));
    std::memcpy(block->type, type.data(), std::min(type.size(), sizeof(block->type) - 1));
    auto slot = std::make_shared<Slot>();
    slot->type = type;
    slot->object = std::move(object);
    slot->stop = std::move(stop);
    void* handle = block.get();
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    r.slots[handle] = std::move(slot);
    r.live[handle] = std::move(block);
    return handle;
}

void destroy_handle(const void* handle, std::string_view type) {
    std::shared_ptr<Slot> slot;  // outlives the lock: freeing the object may run the host's code
    Registry& r = registry();
    std::unique_lock lock(r.mutex);
    const auto row = r.slots.find(handle);
    if (row == r.slots.end() || !row->second || row->second->type != type) return;
    slot = std::move(row->second);
    row->second = nullptr;
    slot->gone = true;
    const auto block = r.live.find(handle);
    r.remembered.push_back(std::move(block->second));
    r.live.erase(block);
    if (r.remembered.size() > kRemembered) {
        r.slots.erase(r.remembered.front().get());
        r.remembered.pop_front();
    }
    // A destroy call inside a callback doesn't wait: the call that it would wait for may be its own, or wait for this one.
    if (slot->idle() || !LogCall::outermost()) return;
    slot->awaited = true;
    if (slot->stop) slot->stop();
    r.lease_ended.wait(lock, [&] { return slot->idle(); });
}

bool destroyed(const std::weak_ptr<Slot>& weak) {
    const std::shared_ptr<Slot> slot = weak.lock();
    if (!slot) return true;
    const std::lock_guard lock(registry().mutex);
    return slot->gone;
}

}  // namespace ds::api
