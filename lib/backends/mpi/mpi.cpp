// libdsrt_mpi.so: processes that mpirun or srun started, over Open MPI's point-to-point messages. It joins a host's initialised MPI by duplicating its
// communicator, and never finalizes what it did not initialise.
//
// MPI promises nothing once a process has died, so there is no joining anew: restart the job from its last checkpoint. A process that says nothing is noticed
// by the deadline of each exchange.
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "comm/transport.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kAbortTag = Transport::kLanes;  // lanes are tags below it
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
    AbortMessage last_words;  // stays: it is sent without waiting
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

struct Message {
    Job& job;
    int peer;
    bool sends;
    std::vector<MPI_Request> requests;
};

const char* level_name(int level) {
    return level == MPI_THREAD_SINGLE ? "MPI_THREAD_SINGLE" : level == MPI_THREAD_FUNNELED ? "MPI_THREAD_FUNNELED" : level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED" : "MPI_THREAD_MULTIPLE";
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
        if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level); code != MPI_SUCCESS) return fail(Code::E_COMM, "MPI_Init_thread: {}", text_of(code));
        initialised_by = getpid();
        std::atexit(finalize);
    } else {
        MPI_Query_thread(&level);
    }
    if (level < MPI_THREAD_MULTIPLE)
        return fail(Code::E_UNSUPPORTED, "MPI was initialised with {}, but ranks are threads: MPI_THREAD_MULTIPLE is needed (MPI_Init_thread)", level_name(level));
    return ok();
}

Result<std::unique_ptr<Job>> join_job(const nlohmann::json& options) {
    int there = 0;
    MPI_Initialized(&there);
    if (options.contains("fortran_comm") && !there)  // MPI_Init of a process that nothing started as MPI's may end it
        return fail(Code::E_STATE, "ds_options_set_mpi: MPI is not initialised in this process, so there is no communicator {}; call MPI_Init_thread first", options["fortran_comm"].get<MPI_Fint>());
    DS_CHECK(initialise());
    MPI_Comm from = MPI_COMM_WORLD;
    if (options.contains("fortran_comm")) from = MPI_Comm_f2c(options["fortran_comm"].get<MPI_Fint>());
    if (from == MPI_COMM_NULL) return fail(Code::E_INVALID_ARGUMENT, "ds_options_set_mpi: the communicator is MPI_COMM_NULL");
    auto job = std::make_unique<Job>();
    if (options.value("look", false)) {
        job->comm = from;
    } else {
        if (const int code = MPI_Comm_dup(from, &job->comm); code != MPI_SUCCESS) return fail(Code::E_COMM, "MPI_Comm_dup: {}", text_of(code));
        MPI_Comm_set_errhandler(job->comm, MPI_ERRORS_RETURN);
        int* largest = nullptr;
        MPI_Comm_get_attr(job->comm, MPI_TAG_UB, &largest, &there);
        if (there && *largest <= kAbortTag) return fail(Code::E_UNSUPPORTED, "this MPI has tags up to {} only; {} are needed", *largest, kAbortTag + 1);
    }
    MPI_Comm_rank(job->comm, &job->rank);
    MPI_Comm_size(job->comm, &job->size);
    return job;
}

int32_t join(const char* text, void (*failed)(void*, int32_t, const char*), void* user, void** transport, int32_t* rank, int32_t* size, char* error, size_t error_bytes) {
    try {
        auto job = join_job(nlohmann::json::parse(text));
        if (!job.ok()) return put(job.status().code(), job.status().message(), error, error_bytes);
        (*job)->failed = failed;
        (*job)->user = user;
        *rank = (*job)->rank;
        *size = (*job)->size;
        *transport = std::move(*job).release();
        return 0;
    } catch (const std::exception& e) {
        return put(Code::E_INTERNAL, e.what(), error, error_bytes);
    }
}

// The duplicate is not freed: that would be collective, and leaving is not.
void leave(void* transport) {
    auto* job = static_cast<Job*>(transport);
    if (job->ended) return;  // its last words may still be on the way
    delete job;
}

int32_t start(void* transport, int32_t peer, uint32_t lane, void* data, size_t bytes, bool sends, void** pending, char* error, size_t error_bytes) {
    auto& job = *static_cast<Job*>(transport);
    if (job.ended) return put(job.why().code(), job.why().message(), error, error_bytes);
    auto message = std::make_unique<Message>(Message{job, peer, sends, {}});
    for (size_t at = 0; at < bytes; at += kLargestPiece) {
        const int n = static_cast<int>(std::min(kLargestPiece, bytes - at));
        auto* from = static_cast<char*>(data) + at;
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = sends ? MPI_Isend(from, n, MPI_BYTE, peer, static_cast<int>(lane), job.comm, &request) : MPI_Irecv(from, n, MPI_BYTE, peer, static_cast<int>(lane), job.comm, &request);
        if (code != MPI_SUCCESS) return put(Code::E_COMM, "rank " + std::to_string(peer) + ": " + text_of(code), error, error_bytes);
        message->requests.push_back(request);
    }
    *pending = message.release();
    return 0;
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
    const auto until = Clock::now() + std::chrono::milliseconds(milliseconds);
    for (int turn = 0;; ++turn) {
        int done = 0;
        const int code = MPI_Testall(static_cast<int>(message.requests.size()), message.requests.data(), &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS) return put(Code::E_COMM, "rank " + std::to_string(message.peer) + ": " + text_of(code), error, error_bytes);
        if (done) return message.requests.clear(), 0;
        if (job.ended) return put(job.why().code(), job.why().message(), error, error_bytes);
        if (turn < 200) continue;
        if (turn < 400) std::this_thread::yield();
        else {
            job.look_for_aborts();
            if (Clock::now() > until) return put(Code::E_TIMEOUT, "rank " + std::to_string(message.peer) + " did not answer in time", error, error_bytes);
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
    }
}

void drop(void* pending) {
    auto* message = static_cast<Message*>(pending);
    for (MPI_Request& request : message->requests) {
        if (request == MPI_REQUEST_NULL) continue;
        MPI_Cancel(&request);
        MPI_Request_free(&request);
    }
    delete message;
}

void abort(void* transport, int32_t code, const char* why) {
    auto& job = *static_cast<Job*>(transport);
    if (!job.end(Status(static_cast<Code>(code), why))) return;
    job.last_words.code = code;
    std::snprintf(job.last_words.text, sizeof job.last_words.text, "%s", why);
    for (int p = 0; p < job.size; ++p) {
        if (p == job.rank) continue;
        MPI_Request request = MPI_REQUEST_NULL;
        if (MPI_Isend(&job.last_words, sizeof job.last_words, MPI_BYTE, p, kAbortTag, job.comm, &request) == MPI_SUCCESS) MPI_Request_free(&request);
    }
}

}  // namespace
}  // namespace ds

extern "C" __attribute__((visibility("default"))) const ds::PluginTable* dsrt_plugin_v1() {
    static char contents[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;
    MPI_Get_library_version(contents, &n);
    static const ds::TransportTable table{{sizeof(ds::TransportTable), "mpi", contents}, ds::join, ds::leave, ds::send, ds::receive, ds::wait, ds::drop, ds::abort};
    return &table.base;
}
