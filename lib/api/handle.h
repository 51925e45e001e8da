// Handles: what a ds_<thing> * of the C ABI points to, and who may use it now.
//
// A handle is the address of a small block of its own, never of the object. One registry of live handles maps it to the object, so any
// stale, foreign or mistyped pointer is found out without touching memory behind it; blocks of destroyed handles are kept for a while,
// so that their addresses don't come back at once. A call takes a lease: shared (const calls), exclusive (others), or free (metrics and
// the like, whose objects synchronise themselves). A lease that can't be had is DS_E_BUSY; nothing ever blocks but a destroy call.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "api/guard.h"

namespace ds::api {

enum class Access { free, shared, exclusive };

// The C type's name and its object; every handle type has a specialisation, in objects.h.
template <class Handle>
struct HandleType;

class Slot;  // registry's entry of one handle

class Lease {
public:
    static Result<Lease> take(const void* handle, std::string_view type, Access access, const char* argument);
    Lease(Lease&& other) noexcept : slot_(std::move(other.slot_)), access_(other.access_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    const std::shared_ptr<void>& object() const;
    std::weak_ptr<Slot> slot() const { return slot_; }

private:
    Lease(std::shared_ptr<Slot> slot, Access access) : slot_(std::move(slot)), access_(access) {}
    std::shared_ptr<Slot> slot_;
    Access access_;
};

void* register_handle(std::string_view type, std::shared_ptr<void> object, std::function<void()> stop);
// Cancels (`stop`) and waits for running calls, then drops the object; inside another call's callback leaves that to the last lease.
void destroy_handle(const void* handle, std::string_view type);
bool destroyed(const std::weak_ptr<Slot>& slot);

// A typed lease: behaves as a pointer to the object.
template <class Handle>
class Use {
public:
    using Object = typename HandleType<std::remove_const_t<Handle>>::Object;
    explicit Use(Lease lease) : lease_(std::move(lease)) {}
    Object* operator->() const { return static_cast<Object*>(lease_.object().get()); }
    Object& operator*() const { return *operator->(); }
    std::shared_ptr<Object> retained() const { return std::static_pointer_cast<Object>(lease_.object()); }
    std::weak_ptr<Slot> slot() const { return lease_.slot(); }

private:
    Lease lease_;
};

template <class Handle>
Result<Use<Handle>> use(Handle* handle, const char* argument, Access access) {
    DS_TRY(Lease lease, Lease::take(handle, HandleType<std::remove_const_t<Handle>>::name, access, argument));
    return Use<Handle>(std::move(lease));
}

// The access follows from const. DS_USE(auto t, tensor) reads the argument's name for messages.
template <class Handle>
Result<Use<Handle>> use(Handle* handle, const char* argument) {
    return use(handle, argument, std::is_const_v<Handle> ? Access::shared : Access::exclusive);
}
#define DS_USE(variable, argument) DS_TRY(variable, ::ds::api::use(argument, #argument))
#define DS_USE_FREELY(variable, argument) DS_TRY(variable, ::ds::api::use(argument, #argument, ::ds::api::Access::free))

template <class Handle>
Handle* new_handle(std::shared_ptr<typename HandleType<Handle>::Object> object, std::function<void()> stop = {}) {
    using Object = std::remove_const_t<typename HandleType<Handle>::Object>;
    return static_cast<Handle*>(
        register_handle(HandleType<Handle>::name, std::const_pointer_cast<Object>(std::move(object)), std::move(stop)));
}

template <class Handle>
void destroy(Handle* handle) {
    if (!handle) return;
    guard(
        [&]() -> Status {
            destroy_handle(handle, HandleType<Handle>::name);
            return ok();
        },
        Report::nothing);
}

}  // namespace ds::api
