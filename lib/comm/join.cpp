#include "comm/join.h"

#include <cmath>
#include <cstdlib>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace ds {
namespace {

Result<std::string> secret_of(const JoinOptions& options) {
    std::string file = options.secret_file;
    if (file.empty())
        if (const char* named = std::getenv("DSRT_SECRET_FILE")) file = named;
    if (file.empty()) return std::string();
    DS_TRY(std::string secret, read_file(file, size_t{1} << 16));
    while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
    if (secret.size() < 16)
        return fail(Code::E_CONFIG, "{}: the secret of a job must have at least 16 bytes, but has {}", file, secret.size());
    return secret;
}

}  // namespace

std::chrono::milliseconds milliseconds_of(double seconds) {
    return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(std::min(seconds, 1e9) * 1000)));
}

std::string backend_of(const JoinOptions& options) {
    if (options.backend != "auto") return options.backend;
    if (options.mpi) return "mpi";
    return options.launch.by == "Open MPI" && !options.launch.address_is_given && find_plugin("mpi").ok() ? "mpi" : "gloo";
}

std::shared_ptr<World> join_through(std::unique_ptr<Transport> transport, const JoinOptions& options) {
    return World::over(std::move(transport), milliseconds_of(options.deadline_seconds));
}

Result<std::shared_ptr<World>> join_job(const JoinOptions& options) {
    const std::string backend = backend_of(options);
    const Launch& launch = options.launch;
    if (backend == "gloo" && !launch.one_host && launch.address.empty())
        return fail(Code::E_CONFIG,
                    "distributed: {} started {} processes on several hosts and did not say where rank 0 is: set MASTER_ADDR and "
                    "MASTER_PORT for all of them, or install libdsrt_mpi.so",
                    launch.by, launch.size);
    DS_TRY(const std::string secret, secret_of(options));
    Json json = {{"rank", launch.rank},
                 {"size", launch.size},
                 {"port", launch.port},
                 {"one_host", launch.one_host},
                 {"job", launch.job},
                 {"epoch", launch.restart},
                 {"secret", secret},
                 {"interface", options.interface},
                 {"join_ms", milliseconds_of(options.join_seconds).count()},
                 {"heartbeat_ms", milliseconds_of(options.heartbeat_seconds).count()}};
    if (!launch.address.empty()) json["address"] = launch.address;
    if (options.mpi) json["fortran_comm"] = *options.mpi;
    auto transport = join_by_plugin(backend, json.dump());
    if (!transport.ok()) return std::move(transport).status().within("distributed");
    log(Level::info, "comm", "{}: process {} of {}, by {}", backend, (*transport)->rank(), (*transport)->size(),
        launch.by.empty() ? "the host" : launch.by);
    return join_through(std::move(*transport), options);
}

}  // namespace ds
