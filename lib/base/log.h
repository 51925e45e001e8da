// The log: messages with a level and a component, for the sink of the host or, at WARN and above, for stderr.
//
// Hosts with a garbage collector can be called only on threads that they know. So a message for a host's sink is queued, and delivered by
// whichever thread is inside a call of the public ABI (LogCall marks those): at once where such a thread logs, else when the call logs
// next, asks for delivery, or ends. A message below the level costs one atomic load.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace ds {

enum class Level : int { trace, debug, info, warn, error, off };

std::string_view name_of(Level level);  // "warn"

namespace detail {
extern std::atomic<int> log_floor;  // nothing below is wanted by anyone
bool log_wanted(Level level, std::string_view component);
void log_message(Level level, std::string_view component, std::string message);
}  // namespace detail

inline bool log_enabled(Level level, std::string_view component) {
    return static_cast<int>(level) >= detail::log_floor.load(std::memory_order_relaxed) && detail::log_wanted(level, component);
}

// log(Level::warn, "engine", "tensor {} is missing", name)
template <class... Args>
void log(Level level, std::string_view component, fmt::format_string<Args...> format, Args&&... args) {
    if (log_enabled(level, component)) detail::log_message(level, component, fmt::format(format, std::forward<Args>(args)...));
}

using LogSink = std::function<void(Level level, const char* component, const char* message)>;

// The sink from now on, for messages of `level` and above; an empty one means stderr. The one before is dropped after its last delivery.
void set_log_sink(LogSink sink, Level level);

// Levels of single components, in place of the sink's (stderr never shows less than WARN). "default" sets all others.
void set_log_levels(const std::map<std::string, Level>& levels);

// This thread is inside a call of the ABI for as long as the object lives; calls nest.
class LogCall {
public:
    LogCall();
    ~LogCall();
    LogCall(const LogCall&) = delete;
    LogCall& operator=(const LogCall&) = delete;
    static bool outermost();  // this thread is inside exactly one call
    static bool inside();
};

// Delivers what is queued, if this thread may. Long waits inside a call do this now and then.
void deliver_log();

}  // namespace ds
