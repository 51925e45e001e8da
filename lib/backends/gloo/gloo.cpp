// libdsrt_gloo.so: processes over TCP, on one host or many. The rendezvous brings them together and watches over them; Gloo carries the
// data.
//
// Gloo's own checks end the process when a message is longer than the memory given for it. So a receive is posted only once the header
// before it has been checked (comm/remote.cpp), and strangers have no way in after all connections stand. Its data ports are plain TCP
// without authentication: across hosts they belong on a private network.
#include <signal.h>

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "backends/gloo/rendezvous.h"
#include "comm/transport.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;
using rendezvous::Rendezvous;

constexpr std::chrono::milliseconds kLook{20};

int32_t put(const Status& why, char* error, size_t bytes) {
    if (bytes) std::snprintf(error, bytes, "%s", why.message().c_str());
    return static_cast<int32_t>(why.code());
}

struct Message;

// One process's end of the job.
struct Job {
    std::shared_ptr<gloo::rendezvous::Context> context;
    std::mutex mutex;
    std::condition_variable changed;
    Status failure;
    std::set<Message*> waiting;
    int64_t patience = 0;  // looks for the reason of a broken connection
    void (*failed)(void*, int32_t, const char*) = nullptr;
    void* user = nullptr;
    std::unique_ptr<Rendezvous> meeting;  // goes first: its thread calls `end`, and that connections go is a failure while it lives

    void end(const Status& why);
    Status why();
    // A broken connection is told twice: by Gloo at once, with the reason by the rendezvous later, but not of a process that has said
    // good-bye.
    Status why_broken(int peer);
};

struct Message {
    Job& job;
    std::unique_ptr<gloo::transport::UnboundBuffer> buffer;
    int peer;
    bool sends, done = false;

    Message(Job& j, void* data, size_t bytes, int p, bool s)
        : job(j), buffer(j.context->createUnboundBuffer(data, bytes)), peer(p), sends(s) {
        std::lock_guard lock(job.mutex);
        job.waiting.insert(this);
    }
    ~Message() {
        std::lock_guard lock(job.mutex);
        job.waiting.erase(this);
        if (!done) give_up();
    }
    void give_up() { sends ? buffer->abortWaitSend() : buffer->abortWaitRecv(); }
};

void Job::end(const Status& why) {
    std::lock_guard lock(mutex);
    if (!failure.ok()) return;
    failure = why;
    for (Message* m : waiting) m->give_up();
    changed.notify_all();
}

Status Job::why() {
    std::lock_guard lock(mutex);
    return failure;
}

Status Job::why_broken(int peer) {
    std::unique_lock lock(mutex);
    for (int64_t look = 0; look < patience && failure.ok() && !meeting->has_left(peer); ++look) changed.wait_for(lock, kLook);
    return failure;
}

// Addresses of Gloo's connections go through the rendezvous.
class Store : public gloo::rendezvous::Store {
public:
    Store(Rendezvous& meeting, Clock::time_point until) : meeting_(meeting), until_(until) {}
    void set(const std::string& key, const std::vector<char>& data) override { meeting_.set(key, {data.begin(), data.end()}); }
    std::vector<char> get(const std::string& key) override {
        const auto value = meeting_.get(key, until_);
        if (!value.ok()) throw std::runtime_error(value.status().message());
        return {value->begin(), value->end()};
    }
    void wait(const std::vector<std::string>& keys) override {
        for (const std::string& key : keys) get(key);
    }
    void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override { wait(keys); }

private:
    Rendezvous& meeting_;
    const Clock::time_point until_;
};

gloo::transport::tcp::attr place_of(const nlohmann::json& o, const Rendezvous& meeting) {
    gloo::transport::tcp::attr attr;
    const std::string interface = o.value("interface", "");
    if (o.value("one_host", true)) attr.hostname = "127.0.0.1";
    else if (interface.empty()) attr.hostname = meeting.own_address();
    else if (interface.find_first_of(".:") != interface.npos) attr.hostname = interface;
    else attr.iface = interface;
    return attr;
}

// While it lives, this thread hears no signal of these. Gloo writes to sockets whose other end may be gone and does not ask to be spared
// SIGPIPE, which would end the host; and threads that it starts must leave the host's signals to the host.
class Deaf {
public:
    explicit Deaf(bool to_all) {
        sigset_t pending, set;
        sigpending(&pending);
        had_one_ = sigismember(&pending, SIGPIPE) == 1;
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        if (to_all) sigfillset(&set);
        pthread_sigmask(SIG_BLOCK, &set, &before_);
    }
    Deaf(const Deaf&) = delete;
    ~Deaf() {
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        const timespec now{};
        if (!had_one_) static_cast<void>(sigtimedwait(&pipe, nullptr, &now));  // the one that came meanwhile is Gloo's
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t before_{};
    bool had_one_ = false;
};

Result<std::unique_ptr<Job>> join_job(const nlohmann::json& o, void (*failed)(void*, int32_t, const char*), void* user) {
    using std::chrono::milliseconds;
    rendezvous::Options options{
        o.at("rank"),          o.at("size"),       o.value("address", "127.0.0.1"), o.at("port"), o.value("one_host", true),
        o.value("secret", ""), o.value("job", ""), o.value("epoch", int64_t{0})};
    options.join_deadline = milliseconds(o.value("join_ms", int64_t{60000}));
    options.heartbeat = milliseconds(o.value("heartbeat_ms", int64_t{5000}));
    options.silence = milliseconds(o.value("silence_ms", 3 * options.heartbeat.count()));
    auto job = std::make_unique<Job>();
    job->patience = options.silence / kLook + 1;
    job->failed = failed;
    job->user = user;
    const auto until = Clock::now() + options.join_deadline;
    auto meeting = Rendezvous::join(options, [raw = job.get()](const Status& why) {
        raw->end(why);
        raw->failed(raw->user, static_cast<int32_t>(why.code()), why.message().c_str());
    });
    if (!meeting.ok()) return std::move(meeting).status();
    job->meeting = std::move(*meeting);
    try {
        const Deaf deaf(true);
        auto device = gloo::transport::tcp::CreateDevice(place_of(o, *job->meeting));
        job->context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.size);
        job->context->setTimeout(options.join_deadline);
        Store store(*job->meeting, until);
        job->context->connectFullMesh(store, device);
    } catch (const std::exception& e) {
        const Status status = fail(Code::E_COMM, "rank {} could not connect to the others: {}", options.rank, e.what());
        job->meeting->fail(status);
        return status;
    }
    return job;
}

int32_t join(const char* text, void (*failed)(void*, int32_t, const char*), void* user, void** transport, int32_t* rank, int32_t* size,
             char* error, size_t error_bytes) {
    try {
        const auto options = nlohmann::json::parse(text);
        auto job = join_job(options, failed, user);
        if (!job.ok()) return put(job.status(), error, error_bytes);
        *rank = (*job)->context->rank;
        *size = (*job)->context->size;
        *transport = std::move(*job).release();
        return 0;
    } catch (const std::exception& e) { return put(Status(Code::E_INTERNAL, e.what()), error, error_bytes); }
}

void leave(void* transport) { delete static_cast<Job*>(transport); }

int32_t start(void* transport, int32_t peer, uint32_t lane, void* data, size_t bytes, bool sends, void** pending, char* error,
              size_t error_bytes) {
    auto& job = *static_cast<Job*>(transport);
    try {
        auto message = std::make_unique<Message>(job, data, bytes, peer, sends);  // from here on `end` ends its wait
        if (const Status why = job.why(); !why.ok()) return put(why, error, error_bytes);
        const Deaf deaf(false);
        sends ? message->buffer->send(peer, lane) : message->buffer->recv(peer, lane);
        *pending = message.release();
        return 0;
    } catch (const std::exception& e) {
        if (const Status why = job.why_broken(peer); !why.ok()) return put(why, error, error_bytes);
        return put(fail(Code::E_COMM, "the connection to process {} is broken: {}", peer, e.what()), error, error_bytes);
    }
}

int32_t send(void* transport, int32_t to, uint32_t lane, const void* data, size_t bytes, void** pending, char* error, size_t error_bytes) {
    return start(transport, to, lane, const_cast<void*>(data), bytes, true, pending, error, error_bytes);
}
int32_t receive(void* transport, int32_t from, uint32_t lane, void* data, size_t bytes, void** pending, char* error, size_t error_bytes) {
    return start(transport, from, lane, data, bytes, false, pending, error, error_bytes);
}

int32_t wait(void* pending, int64_t milliseconds, char* error, size_t error_bytes) {
    auto& message = *static_cast<Message*>(pending);
    Job& job = message.job;
    std::string broken;
    const auto until = Clock::now() + std::chrono::milliseconds(milliseconds);
    try {
        const std::chrono::milliseconds left(std::clamp<int64_t>(milliseconds, 1, int64_t{1} << 40));
        message.done = message.sends ? message.buffer->waitSend(left) : message.buffer->waitRecv(left);
        if (message.done) return 0;
    } catch (const std::exception& e) { broken = e.what(); }
    const bool late = Clock::now() + std::chrono::milliseconds(1) >= until;
    if (const Status why = late ? job.why() : job.why_broken(message.peer); !why.ok()) return put(why, error, error_bytes);
    if (late) return put(fail(Code::E_TIMEOUT, "process {} did not answer in time", message.peer), error, error_bytes);
    return put(fail(Code::E_COMM, "the connection to process {} is broken, which has ended or left the job: {}", message.peer, broken),
               error, error_bytes);
}

void drop(void* pending) { delete static_cast<Message*>(pending); }

void abort(void* transport, int32_t code, const char* why) {
    auto& job = *static_cast<Job*>(transport);
    const Status status(static_cast<Code>(code), why);
    job.end(status);
    job.meeting->fail(status);
}

}  // namespace
}  // namespace ds

extern "C" __attribute__((visibility("default"))) const ds::PluginTable* dsrt_plugin_v1() {
    static const ds::TransportTable table{{sizeof(ds::TransportTable), "gloo", "Gloo 0.5 over TCP; rendezvous over libuv, HMAC by Nettle"},
                                          ds::join,
                                          ds::leave,
                                          ds::send,
                                          ds::receive,
                                          ds::wait,
                                          ds::drop,
                                          ds::abort,
                                          true};
    return &table.base;
}
