// Transport: bytes between the processes of one job. Backends are transports; groups, collectives and sums are built on them once (world.h,
// remote.cpp), so that every backend gives the same bits. libdsrt_gloo.so and libdsrt_mpi.so fill a TransportTable; the host's own
// callbacks are one too.
//
// A lane is a stream of messages from one process to another: what is sent on it arrives in order, and each receive names the size of the
// message that comes. Lanes are independent of each other. Any thread may call; of one lane, one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/plugin.h"
#include "base/status.h"

namespace ds {

class Transport {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr uint32_t kLanes = 1u << 24;

    class Pending {  // destroyed before it is done: its memory is no longer touched
    public:
        virtual ~Pending() = default;
        virtual bool done() { return false; }              // a cheap look, which may miss it
        virtual Status wait(Clock::time_point until) = 0;  // E_TIMEOUT, E_COMM; once
    };
    using Start = Result<std::unique_ptr<Pending>>;

    virtual ~Transport() = default;  // leaves the job
    int rank() const { return rank_; }
    int size() const { return size_; }
    // The memory stays as it is until the wait ended.
    virtual Start send(int to, uint32_t lane, const void* data, size_t bytes) = 0;
    virtual Start receive(int from, uint32_t lane, void* data, size_t bytes) = 0;
    // Ends all waits, here and, where the backend can tell them, in the other processes; later ones fail at once.
    virtual void abort(const Status& why) = 0;
    // Called, from any thread, when the backend learns by itself that the job is over: a process ended or fell silent, another one called
    // abort.
    virtual void on_failure(std::function<void(const Status&)> told) = 0;
    // Whether it learns of every peer that is gone or stopped.
    virtual bool watches() const { return false; }
    // A transport of the host's is called by threads that are inside a call of the ABI only: while others exchange, such a thread serves
    // them.
    virtual bool wants_caller() const { return false; }
    virtual void serve(const std::function<bool()>& over) { (void)over; }

protected:
    Transport(int rank, int size) : rank_(rank), size_(size) {}

private:
    const int rank_, size_;
};

// What a plug-in fills. Codes are those of errors.def; text is written to `error`, NUL-terminated. Memory and threads as for Transport.
struct TransportTable {
    PluginTable base;
    // Joins the job that `options` (JSON; world.h) describes. failed(user, code, text): see on_failure; until leave returns.
    int32_t (*join)(const char* options, void (*failed)(void* user, int32_t code, const char* text), void* user, void** transport,
                    int32_t* rank, int32_t* size, char* error, size_t error_bytes);
    void (*leave)(void* transport);
    int32_t (*send)(void* transport, int32_t to, uint32_t lane, const void* data, size_t bytes, void** pending, char* error,
                    size_t error_bytes);
    int32_t (*receive)(void* transport, int32_t from, uint32_t lane, void* data, size_t bytes, void** pending, char* error,
                       size_t error_bytes);
    int32_t (*wait)(void* pending, int64_t milliseconds, char* error, size_t error_bytes);
    void (*drop)(void* pending);
    void (*abort)(void* transport, int32_t code, const char* why);
    bool watches;
};

// "gloo", "mpi": loads the plug-in and joins.
Result<std::unique_ptr<Transport>> join_by_plugin(std::string_view backend, const std::string& options_json);

// A host's own. send takes or sends the bytes without waiting for the receiver; receive answers PENDING where the message has not come
// within wait_ms.
struct HostedCallbacks {
    int rank = 0, size = 1;
    std::function<Status(int to, uint32_t lane, const void* data, size_t bytes)> send;
    std::function<Status(int from, uint32_t lane, void* data, size_t bytes, int wait_ms)> receive;
    std::function<void(const Status& why)> abort;  // may be empty
};
std::unique_ptr<Transport> hosted_transport(HostedCallbacks callbacks);

// Processes that are threads of this one, for tests.
std::vector<std::unique_ptr<Transport>> memory_transports(int processes);

}  // namespace ds
