// ds_set_log: the host's sink.
#include "base/log.h"

#include "api/host.h"

using namespace ds;
using namespace ds::api;

static_assert(DS_LOG_TRACE == int(Level::trace) && DS_LOG_WARN == int(Level::warn) && DS_LOG_OFF == int(Level::off));

ds_status ds_set_log(ds_log_fn fn, int32_t level, void* user, void (*release)(void*)) {
    return guard([&]() -> Status {
        DS_REQUIRE(level >= DS_LOG_TRACE && level <= DS_LOG_OFF, "level must be 0 (DS_LOG_TRACE) to 5 (DS_LOG_OFF), but is {}", level);
        if (fn) {
            const auto held = std::make_shared<HostData>(user);
            LogSink sink = [fn, held](Level l, const char* component, const char* message) {
                fn(static_cast<int32_t>(l), component, message, held->user);
            };
            set_log_sink(std::move(sink), static_cast<Level>(level));
            held->release = release;  // only now: a call that fails doesn't release
            return ok();
        }
        set_log_sink({}, static_cast<Level>(level));
        if (release) release(user);
        return ok();
    });
}
