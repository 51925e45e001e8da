// Streams, events and graphs of the double.
#pragma once

#include <deque>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/emulate/api.h"

namespace emu {
using Operation = std::function<std::string()>;  // runs; what went wrong
}

struct EmuGraph {
    std::deque<emu::Operation> operations;
};
struct EmuStream {
    std::deque<emu::Operation> queued;
    EmuGraph* recording = nullptr;
    cudaError_t failed = cudaSuccess;
};
struct EmuEvent {
    EmuStream* stream = nullptr;
    int pending = 0;
};

namespace emu {
std::set<EmuStream*>& streams();
cudaError_t queue(cudaStream_t stream, Operation op);
cudaError_t drive(EmuStream& stream);
}  // namespace emu
