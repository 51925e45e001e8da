// join: from what the host, the config and the launcher say to the World of this job.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "comm/launch.h"
#include "comm/world.h"

namespace ds {

struct JoinOptions {
    std::string backend = "auto";  // the config's "distributed"
    Launch launch;
    std::optional<int32_t> mpi;  // a host's communicator
    double deadline_seconds = 60, join_seconds = 120, heartbeat_seconds = 5;
    std::string secret_file, interface;
};

std::chrono::milliseconds milliseconds_of(double seconds);

// "gloo" between processes; "mpi" where mpirun started them, the plug-in is there and nobody named a MASTER_ADDR.
std::string backend_of(const JoinOptions& options);

// Waits for all processes of the job.
Result<std::shared_ptr<World>> join_job(const JoinOptions& options);

// The world that a host's communicator makes.
std::shared_ptr<World> join_through(std::unique_ptr<Transport> transport, const JoinOptions& options);

}  // namespace ds
