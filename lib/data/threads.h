// Threads of the library: they take no signals, so that the host's handlers run on the host's own threads.
#pragma once

#include <functional>
#include <thread>

#include "base/status.h"

namespace ds {

std::thread start_quiet_thread(std::function<void()> body);

// Calls f(0) ... f(n - 1) on up to `threads` threads and this one. Answers the failure of the lowest number.
Status parallel_for(int64_t n, int64_t threads, const std::function<Status(int64_t)>& f);

// A failure for what escaped as an exception: a thread that let it through would end the host.
Status status_of_current_exception(std::string_view place);

}  // namespace ds
