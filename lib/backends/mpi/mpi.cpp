// libdsrt_mpi.so: processes that mpirun or srun started, over Open MPI's point-to-point messages. It joins a host's initialised MPI by
// duplicating its communicator, and never finalizes what it did not initialise.
//
// MPI promises nothing once a process has died, so there is no joining anew: restart the job from its last checkpoint. A process that says
// nothing is noticed by the deadline of each exchange.
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "comm/transport.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kAbortTag = Transport::kLanes;       // lanes are tags below it
constexpr size_t kLargestPiece = size_t{1} << 30;  // counts are 32-bit
constexpr size_t kAbortBytes = 512;

int32_t put(Code code, const std::string& text, char* error, size_t bytes) {
    if (bytes) std::snprintf(error, bytes, "%s", text.c_str());
    return static_cast<int32_t>(code);
}

std::string text_of(int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return {text, static_cast<size_t>(n)};
}

struct AbortMessage {
    int32_t code = 0;
    char text[kAbortBytes - 4] = {};
};

struct Job {
    MPI_Comm comm = MPI_COMM_NULL;
    int rank = 0, size = 1;
    std::mutex mutex;
    std::atomic<bool> ended{false};
    Status failure;
    std::atomic<int64_t> next_look{0};
    void (*failed)(void*, int32_t, const char*) = nullptr;
    void* user = nullptr;

    bool end(const Status& why) {
        std::lock_guard lock(mutex);
        if (ended) return false;
        failure = why;
        ended = true;
        return true;
    }
    Status why() {
        std::lock_guard lock(mutex);
        return failure;
    }
    // Whether another process has called abort. Looked for now and then by whoever waits.
    void look_for_aborts() {
        const int64_t now = Clock::now().time_since_epoch().count();
        int64_t due = next_look.load();
        if (now < due || !next_look.compare_exchange_strong(due, now + 1000000)) return;
        int there = 0;
        MPI_Status status;
        if (MPI_Iprobe(MPI_ANY_SOURCE, kAbortTag, comm, &there, &status) != MPI_SUCCESS || !there) return;
        AbortMessage message;
        if (MPI_Recv(&message, sizeof message, MPI_BYTE, status.MPI_SOURCE, kAbortTag, comm, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
        message.text[sizeof message.text - 1] = 0;
        const Status reason(static_cast<Code>(message.code), message.text);
        if (end(reason)) failed(user, message.code, message.text);
    }
};

// Messages pass through memory of the plug-in's own: MPI can't take a send back, and goes on reading (or writing) after a job has ended,
// when whoever asked for the message has long freed what it gave.
struct Buffer {
    std::unique_ptr<std::byte[]> bytes;
    size_t size = 0;
};

class Spares {
public:
    Buffer take(size_t bytes) {
        std::lock_guard lock(mutex_);
        for (Buffer& spare : spares_)
            if (spare.size >= bytes && spare.size / 4 <= bytes) {
                std::swap(spare, spares_.back());
                Buffer taken = std::move(spares_.back());
                spares_.pop_back();
                return taken;
            }
        return {std::make_unique_for_overwrite<std::byte[]>(bytes), bytes};
    }
    void give(Buffer buffer) {
        std::lock_guard lock(mutex_);
        if (spares_.size() >= kMost) spares_.erase(spares_.begin());
        spares_.push_back(std::move(buffer));
    }

private:
    static constexpr size_t kMost = 8;
    std::mutex mutex_;
    std::vector<Buffer> spares_;
};

struct Message {
    Job& job;
    int peer;
    void* into;  // null: sends
    size_t bytes;
    Buffer buffer;
    std::vector<MPI_Request> requests;
};

// Messages that MPI has not done with although nobody waits for them any more. Never destroyed: MPI may outlive static objects.
class Orphans {
public:
    void add(std::vector<MPI_Request> requests, Buffer buffer) {
        std::lock_guard lock(mutex_);
        left_.push_back({std::move(requests), std::move(buffer)});
    }
    void bury() {
        std::lock_guard lock(mutex_);
        std::erase_if(left_, [](Left& left) {
            int done = 0;
            return MPI_Testall(static_cast<int>(left.requests.size()), left.requests.data(), &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS &&
                   done;
        });
    }

private:
    struct Left {
        std::vector<MPI_Request> requests;
        Buffer buffer;
    };
    std::mutex mutex_;
    std::vector<Left> left_;
};

Spares& spares() {
    static Spares& one = *new Spares;
    return one;
}
Orphans& orphans() {
    static Orphans& one = *new Orphans;
    return one;
}

const char* level_name(int level) {
    return level == MPI_THREAD_SINGLE       ? "MPI_THREAD_SINGLE"
           : level == MPI_THREAD_FUNNELED   ? "MPI_THREAD_FUNNELED"
           : level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED"
                                            : "MPI_THREAD_MULTIPLE";
}

pid_t initialised_by = 0;

// What this plug-in initialised, it finalizes when the process ends: mpirun counts anything else as a crash.
void finalize() {
    int done = 0;
    MPI_Finalized(&done);
    if (!done && initialised_by == getpid()) MPI_Finalize();
}

Status initialise() {
    static std::mutex& mutex = *new std::mutex;
    std::lock_guard lock(mutex);
    int there = 0, gone = 0, level = 0;
    MPI_Initialized(&there);
    MPI_Finalized(&gone);
    if (gone) return fail(Code::E_STATE, "MPI was finalized already");
    if (!there) {
        if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level); code != MPI_SUCCESS)
            return fail(Code::E_COMM, "MPI_Init_thread: {}", text_of(code));
        initialised_by = getpid();
        std::atexit(finalize);
    } else {
        MPI_Query_thread(&level);
    }
    if (level < MPI_THREAD_MULTIPLE)
        return fail(Code::E_UNSUPPORTED,
                    "MPI was initialised with {}, but ranks are threads: MPI_THREAD_MULTIPLE is needed (MPI_Init_thread)",
                    level_name(level));
    return ok();
}

// The processes of `from` as a communicator of the library's own. All of them must come, within join_ms.
Status duplicate(MPI_Comm from, int64_t join_ms, MPI_Comm& copy) {
    // MPI writes here when the last one comes, though nobody may wait any more: it can't take the call back.
    struct Asked {
        MPI_Comm copy = MPI_COMM_NULL;
        MPI_Request request = MPI_REQUEST_NULL;
    };
    auto asked = std::make_unique<Asked>();
    if (const int code = MPI_Comm_idup(from, &asked->copy, &asked->request); code != MPI_SUCCESS)
        return fail(Code::E_COMM, "MPI_Comm_idup: {}", text_of(code));
    const auto until = Clock::now() + std::chrono::milliseconds(join_ms);
    for (int came = 0;;) {
        if (const int code = MPI_Test(&asked->request, &came, MPI_STATUS_IGNORE); code != MPI_SUCCESS)
            return fail(Code::E_COMM, "MPI_Comm_idup: {}", text_of(code));
        if (came) break;
        if (Clock::now() > until) {
            static_cast<void>(asked.release());
            int size = 0;
            MPI_Comm_size(from, &size);
            return fail(Code::E_TIMEOUT, "not all {} processes of the communicator joined within {} s (comm.join_seconds)", size,
                        static_cast<double>(join_ms) / 1000);
        }
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    copy = asked->copy;
    return ok();
}

Result<std::unique_ptr<Job>> join_job(const nlohmann::json& options) {
    int there = 0;
    MPI_Initialized(&there);
    if (options.contains("fortran_comm") && !there)  // MPI_Init of a process that nothing started as MPI's may end it
        return fail(
            Code::E_STATE,
            "ds_options_set_mpi: MPI is not initialised in this process, so there is no communicator {}; call MPI_Init_thread first",
            options["fortran_comm"].get<MPI_Fint>());
    DS_CHECK(initialise());
    MPI_Comm from = MPI_COMM_WORLD;
    if (options.contains("fortran_comm")) from = MPI_Comm_f2c(options["fortran_comm"].get<MPI_Fint>());
    if (from == MPI_COMM_NULL) return fail(Code::E_INVALID_ARGUMENT, "ds_options_set_mpi: the communicator is MPI_COMM_NULL");
    orphans().bury();
    auto job = std::make_unique<Job>();
    if (options.value("look", false)) {
        job->comm = from;
    } else {
        DS_CHECK(duplicate(from, options.at("join_ms").get<int64_t>(), job->comm));
        MPI_Comm_set_errhandler(job->comm, MPI_ERRORS_RETURN);
        int* largest = nullptr;
        MPI_Comm_get_attr(job->comm, MPI_TAG_UB, &largest, &there);
        if (there && *largest <= kAbortTag)
            return fail(Code::E_UNSUPPORTED, "this MPI has tags up to {} only; {} are needed", *largest, kAbortTag + 1);
    }
    MPI_Comm_rank(job->comm, &job->rank);
    MPI_Comm_size(job->comm, &job->size);
    return job;
}

int32_t join(const char* text, void (*failed)(void*, int32_t, const char*), void* user, void** transport, int32_t* rank, int32_t* size,
             char* error, size_t error_bytes) {
    try {
        auto job = join_job(nlohmann::json::parse(text));
        if (!job.ok()) return put(job.status().code(), job.status().message(), error, error_bytes);
        (*job)->failed = failed;
        (*job)->user = user;
        *rank = (*job)->rank;
        *size = (*job)->size;
        *transport = std::move(*job).release();
        return 0;
    } catch (const std::exception& e) { return put(Code::E_INTERNAL, e.what(), error, error_bytes); }
}

// The duplicate is not freed: that would be collective, and leaving is not.
void leave(void* transport) { delete static_cast<Job*>(transport); }

int32_t start(std::unique_ptr<Message> message, uint32_t lane, void** pending, char* error, size_t error_bytes) {
    Job& job = message->job;
    if (job.ended) return put(job.why().code(), job.why().message(), error, error_bytes);
    for (size_t at = 0; at < message->bytes; at += kLargestPiece) {
        const int n = static_cast<int>(std::min(kLargestPiece, message->bytes - at)), tag = static_cast<int>(lane);
        std::byte* piece = message->buffer.bytes.get() + at;
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = message->into ? MPI_Irecv(piece, n, MPI_BYTE, message->peer, tag, job.comm, &request)
                                       : MPI_Isend(piece, n, MPI_BYTE, message->peer, tag, job.comm, &request);
        if (code != MPI_SUCCESS) {
            orphans().add(std::move(message->requests), std::move(message->buffer));
            return put(Code::E_COMM, "process " + std::to_string(message->peer) + ": " + text_of(code), error, error_bytes);
        }
        message->requests.push_back(request);
    }
    *pending = message.release();
    return 0;
}

int32_t send(void* transport, int32_t to, uint32_t lane, const void* data, size_t bytes, void** pending, char* error, size_t error_bytes) {
    auto message = std::make_unique<Message>(Message{*static_cast<Job*>(transport), to, nullptr, bytes, spares().take(bytes), {}});
    if (bytes) std::memcpy(message->buffer.bytes.get(), data, bytes);
    return start(std::move(message), lane, pending, error, error_bytes);
}
int32_t receive(void* transport, int32_t from, uint32_t lane, void* data, size_t bytes, void** pending, char* error, size_t error_bytes) {
    return start(std::make_unique<Message>(Message{*static_cast<Job*>(transport), from, data, bytes, spares().take(bytes), {}}), lane,
                 pending, error, error_bytes);
}

int32_t wait(void* pending, int64_t milliseconds, char* error, size_t error_bytes) {
    auto& message = *static_cast<Message*>(pending);
    Job& job = message.job;
    const auto until = Clock::now() + std::chrono::milliseconds(milliseconds);
    for (int turn = 0;; ++turn) {
        int done = 0;
        const int code = MPI_Testall(static_cast<int>(message.requests.size()), message.requests.data(), &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS)
            return put(Code::E_COMM, "process " + std::to_string(message.peer) + ": " + text_of(code), error, error_bytes);
        if (done) {
            if (message.into && message.bytes) std::memcpy(message.into, message.buffer.bytes.get(), message.bytes);
            message.requests.clear();
            return 0;
        }
        if (job.ended) return put(job.why().code(), job.why().message(), error, error_bytes);
        if (turn < 200) continue;
        if (turn < 400) std::this_thread::yield();
        else {
            job.look_for_aborts();
            if (Clock::now() > until)
                return put(Code::E_TIMEOUT, "process " + std::to_string(message.peer) + " did not answer in time", error, error_bytes);
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
    }
}

void drop(void* pending) {
    const std::unique_ptr<Message> message(static_cast<Message*>(pending));
    if (message->requests.empty()) return spares().give(std::move(message->buffer));
    for (MPI_Request& request : message->requests)
        if (message->into && request != MPI_REQUEST_NULL) MPI_Cancel(&request);
    orphans().add(std::move(message->requests), std::move(message->buffer));
}

void abort(void* transport, int32_t code, const char* why) {
    auto& job = *static_cast<Job*>(transport);
    if (!job.end(Status(static_cast<Code>(code), why))) return;
    Buffer words = spares().take(sizeof(AbortMessage));
    auto& message = *new (words.bytes.get()) AbortMessage{code, {}};
    std::snprintf(message.text, sizeof message.text, "%s", why);
    std::vector<MPI_Request> requests;
    for (int p = 0; p < job.size; ++p) {
        if (p == job.rank) continue;
        MPI_Request request = MPI_REQUEST_NULL;
        if (MPI_Isend(&message, sizeof message, MPI_BYTE, p, kAbortTag, job.comm, &request) == MPI_SUCCESS) requests.push_back(request);
    }
    orphans().add(std::move(requests), std::move(words));
}

}  // namespace
}  // namespace ds

extern "C" __attribute__((visibility("default"))) const ds::PluginTable* dsrt_plugin_v1() {
    static char contents[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;
    MPI_Get_library_version(contents, &n);
    static const ds::TransportTable table{
        {sizeof(ds::TransportTable), "mpi", contents}, ds::join, ds::leave, ds::send, ds::receive, ds::wait, ds::drop, ds::abort, false};
    return &table.base;
}
