#include "base/log.h"

#include <unistd.h>

#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "base/per_process.h"

namespace ds {
namespace {

constexpr size_t kQueueLimit = 4096;  // messages; the rest is counted

struct Message {
    Level level;
    std::string component, text;
    bool by_sink = false;  // logged by a call of the sink's own
};

struct Logger {
    std::mutex mutex;
    std::shared_ptr<LogSink> sink;  // null: stderr
    Level level = Level::warn;      // of the sink
    std::map<std::string, Level, std::less<>> components;
    std::deque<Message> queue;
    size_t lost = 0;
    bool delivering = false;  // one thread at a time, so that a sink need not be reentrant and nobody waits for another's host

    explicit Logger(bool /*forked*/) { update_floor(); }

    // Both with the mutex held.
    Level level_of(std::string_view component) const {
        auto row = components.find(component);
        if (row == components.end()) row = components.find("default");
        const Level wanted = row == components.end() ? level : row->second;
        return sink ? wanted : std::max(wanted, Level::warn);
    }
    void update_floor() const {
        Level floor = level;
        for (const auto& [component, lowest] : components) floor = std::min(floor, lowest);
        if (!sink) floor = std::max(floor, Level::warn);
        detail::log_floor.store(static_cast<int>(floor), std::memory_order_relaxed);
    }
};

constinit PerProcess<Logger> process;
Logger& logger() { return process.get(); }

thread_local int depth = 0;                       // calls of the ABI that this thread is inside of
thread_local const Message* delivered = nullptr;  // what this thread is telling the sink of

void write_to_stderr(const Message& m) {
    const std::string line = fmt::format("dsrt {}: {}: {}\n", name_of(m.level), m.component, m.text);
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());  // one piece; nowhere to report a failure
}

}  // namespace

namespace detail {

std::atomic<int> log_floor{static_cast<int>(Level::warn)};

bool log_wanted(Level level, std::string_view component) {
    if (level == Level::off) return false;
    Logger& log = logger();
    const std::lock_guard lock(log.mutex);
    return level >= log.level_of(component);
}

void log_message(Level level, std::string_view component, std::string text) {
    if (delivered && delivered->by_sink) return;  // a sink that logs whatever it hears would never see the end of it
    Message message{level, std::string(component), std::move(text), delivered != nullptr};
    Logger& log = logger();
    std::unique_lock lock(log.mutex);
    if (!log.sink) {
        lock.unlock();
        return write_to_stderr(message);
    }
    if (log.queue.size() < kQueueLimit) log.queue.push_back(std::move(message));
    else ++log.lost;
    lock.unlock();
    deliver_log();
}

}  // namespace detail

std::string_view name_of(Level level) {
    constexpr std::string_view names[] = {"trace", "debug", "info", "warn", "error", "off"};
    return names[static_cast<int>(level)];
}

void set_log_sink(LogSink sink, Level level) {
    auto next = sink ? std::make_shared<LogSink>(std::move(sink)) : nullptr;
    Logger& log = logger();
    {
        const std::lock_guard lock(log.mutex);
        std::swap(log.sink, next);
        log.level = level;
        log.update_floor();
    }
    // `next`, the sink before, is dropped here, or by the thread that is delivering to it.
}

void set_log_levels(const std::map<std::string, Level>& levels) {
    Logger& log = logger();
    const std::lock_guard lock(log.mutex);
    log.components = {levels.begin(), levels.end()};
    log.update_floor();
}

LogCall::LogCall() { ++depth; }
LogCall::~LogCall() { --depth; }
bool LogCall::outermost() { return depth == 1; }
bool LogCall::inside() { return depth > 0; }

void deliver_log() {
    if (depth == 0) return;
    Logger& log = logger();
    std::unique_lock lock(log.mutex);
    if (log.delivering || (log.queue.empty() && !log.lost)) return;
    log.delivering = true;
    struct Done {  // also when the host's sink throws
        Logger& log;
        std::unique_lock<std::mutex>& lock;
        ~Done() {
            if (!lock.owns_lock()) lock.lock();
            log.delivering = false;
            delivered = nullptr;
        }
    } done{log, lock};
    for (size_t n = 0; n < kQueueLimit && (!log.queue.empty() || log.lost); ++n) {  // bounded: other threads go on
        Message message;
        if (!log.queue.empty()) {
            message = std::move(log.queue.front());
            log.queue.pop_front();
        } else {
            message = {Level::warn, "log", fmt::format("{} messages were lost", std::exchange(log.lost, 0)), false};
        }
        std::shared_ptr<LogSink> sink = log.sink;
        const bool wanted = message.level >= log.level_of(message.component);  // by this sink: it may have changed since
        lock.unlock();
        delivered = &message;
        if (wanted && sink) (*sink)(message.level, message.component.c_str(), message.text.c_str());
        else if (wanted) write_to_stderr(message);
        sink.reset();  // may run the host's release
        delivered = nullptr;
        lock.lock();
    }
}

}  // namespace ds
