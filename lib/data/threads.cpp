#include "data/threads.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <mutex>
#include <new>
#include <vector>

namespace ds {

std::thread start_quiet_thread(std::function<void()> body) {
    // A new thread inherits the mask of its maker.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    struct Restore {
        const sigset_t& mask;
        ~Restore() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
    } restore{before};
    return std::thread(std::move(body));
}

Status status_of_current_exception(std::string_view place) {
    try {
        throw;
    } catch (const std::bad_alloc&) { return fail(Code::E_OUT_OF_MEMORY, "{}: no memory", place); } catch (const std::exception& error) {
        return fail(Code::E_INTERNAL, "{}: {}", place, error.what());
    } catch (...) { return fail(Code::E_INTERNAL, "{}: unknown fault", place); }
}

Status parallel_for(int64_t n, int64_t threads, const std::function<Status(int64_t)>& f) {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    int64_t failed = n;
    Status failure;
    // Items after a failure are left out; those before it were already taken, so the lowest failure is found.
    const auto work = [&] {
        for (int64_t i; (i = next.fetch_add(1)) < n;) {
            Status status;
            try {
                status = f(i);
            } catch (...) { status = status_of_current_exception("data"); }
            if (status.ok()) continue;
            next = n;
            const std::lock_guard lock(mutex);
            if (i < failed) {
                failed = i;
                failure = std::move(status);
            }
        }
    };
    std::vector<std::thread> helpers;
    for (int64_t i = 0; i + 1 < std::min(threads, n); ++i) helpers.push_back(start_quiet_thread(work));
    work();
    for (std::thread& helper : helpers) helper.join();
    return failure;
}

}  // namespace ds
