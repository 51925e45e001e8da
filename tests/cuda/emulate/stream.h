// Streams, events and graphs of the double.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/emulate/api.h"
#include "tests/cuda/emulate/order.h"

namespace emu {
using Operation = std::function<std::string()>;  // runs; what went wrong, or kNotYet
inline constexpr char kNotYet[] = "not yet";     // it waits for another stream, and will be tried again

struct Marks {                    // of an event
    EmuStream* stream = nullptr;  // that recorded it last
    int64_t recorded = 0;         // how often
    std::deque<std::pair<int64_t, Clock>>
        reached;  // which of these a stream has come to, and what was done before; of the oldest only that they were reached
    int64_t forgotten = 0;
};
}  // namespace emu

struct EmuGraph {
    std::deque<emu::Operation> operations;
};
struct EmuStream {
    struct Queued {
        emu::Operation run;
        emu::SharedClock host;  // what the host had waited for
    };
    std::deque<Queued> queued;
    EmuGraph* recording = nullptr;
    cudaError_t failed = cudaSuccess;
    int device = 0;
    bool runs = false;       // an operation of it is being run
    bool exchanges = false;  // NCCL has worked on it
    emu::StreamOrder order;
};
struct EmuEvent {
    std::shared_ptr<emu::Marks> marks = std::make_shared<emu::Marks>();
};

namespace emu {
std::recursive_mutex& mutex();         // one call at a time
std::condition_variable_any& moved();  // a stream got further, or got something to do
std::set<EmuStream*>& streams();
cudaError_t queue(cudaStream_t stream, Operation op);
bool step(EmuStream& stream);          // runs its next operation; false: there is none, or it has to wait
cudaError_t drive(EmuStream& stream);  // as far as it gets
int running_device();                  // whose operation is being run; -1: none
}  // namespace emu
