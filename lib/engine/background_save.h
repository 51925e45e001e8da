// BackgroundSave: a checkpoint written by a thread of its own from a copy of everything, while training goes on.
//
// One at a time. What goes wrong is told once, by the next call that asks (`wait`, `failure`). Destroying waits for the writing to end.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

#include "ckpt/checkpoint.h"
#include "engine/arena.h"
#include "exec/workers.h"

namespace ds {

class BackgroundSave {
public:
    BackgroundSave() = default;
    BackgroundSave(const BackgroundSave&) = delete;
    ~BackgroundSave();

    // Copies the tensors and begins to write. The caller has waited for the save before.
    Status start(std::filesystem::path dir, std::string tag, Json state, CheckpointFiles files, Workers& workers);
    // Waits for the end of what is being written, if anything is, and answers how it went.
    Status wait();
    // The same for a save that has ended; one that has not is no failure yet.
    Status failure() { return ended_.load(std::memory_order_acquire) ? wait() : ok(); }

private:
    Status copy(CheckpointFiles& files, Workers& workers);

    Arena memory_;
    std::thread thread_;
    std::atomic<bool> ended_{false};
    Status status_;      // the thread's, until it is joined
    std::string place_;  // for messages
};

}  // namespace ds
