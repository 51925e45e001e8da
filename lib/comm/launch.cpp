#include "comm/launch.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace ds {
namespace {

// The variables of one launcher. Null: it has none.
struct Launcher {
    const char *by, *rank, *size, *local_rank, *local_size, *job;
};
constexpr Launcher kMpi[] = {
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "PMIX_NAMESPACE"},
    {"MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE", nullptr},
    {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_ID"},
    {"JSM", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE", "LSB_JOBID"},
};
constexpr Launcher kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"};
constexpr Launcher kSlurm{"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr, "SLURM_JOB_ID"};

constexpr int kLargestJob = 1 << 20;

Result<std::optional<int>> number(const Environment& environment, const char* name) {
    const char* text = name ? environment(name) : nullptr;
    if (!text || !*text) return std::optional<int>();
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end || value < 0 || value > kLargestJob)
        return fail(Code::E_CONFIG, "{}: must be a number of 0 to {}, is {}", name, kLargestJob, text);
    return std::optional<int>(static_cast<int>(value));
}

std::string text(const Environment& environment, const char* name) {
    const char* value = name ? environment(name) : nullptr;
    return value ? value : "";
}

// A port for jobs whose launcher tells none: the same in every process, and another one for another job.
int port_of(const std::string& job) {
    uint32_t hash = 2166136261u;  // FNV-1a
    for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return 20000 + static_cast<int>(hash % 10000);
}

// What one launcher says; size 1 and no name where it says nothing.
Result<Launch> read(const Launcher& from, const Environment& environment) {
    Launch launch;
    DS_TRY(const auto size, number(environment, from.size));
    DS_TRY(const auto rank, number(environment, from.rank));
    if (!size || (!rank && *size <= 1)) return launch;
    if (!rank)
        return fail(Code::E_CONFIG, "{} is {}, but {} is not set: a process must know which of them it is", from.size, *size, from.rank);
    if (*size < 1 || *rank >= *size) return fail(Code::E_CONFIG, "{} {} must be below {} {}", from.rank, *rank, from.size, *size);
    DS_TRY(const auto local_rank, number(environment, from.local_rank));
    DS_TRY(const auto local_size, number(environment, from.local_size));
    if (local_rank && local_size && *local_rank >= *local_size)
        return fail(Code::E_CONFIG, "{} {} must be below {} {}", from.local_rank, *local_rank, from.local_size, *local_size);
    launch.by = from.by;
    launch.rank = *rank;
    launch.size = *size;
    launch.local_rank = local_rank.value_or(0);
    launch.local_size = local_size.value_or(0);
    launch.job = text(environment, from.job);
    return launch;
}

bool is_local_name(const std::string& address) { return address == "localhost" || address.starts_with("127.") || address == "::1"; }

// Where rank 0 is.
Status find_rank_zero(Launch& launch, const Environment& environment) {
    launch.address = text(environment, "MASTER_ADDR");
    launch.address_is_given = !launch.address.empty();
    DS_TRY(const auto port, number(environment, "MASTER_PORT"));
    if (port && (*port == 0 || *port > 65000)) return fail(Code::E_CONFIG, "MASTER_PORT: must be 1 to 65000, is {}", *port);
    const bool slurm = launch.by == kSlurm.by;
    if (slurm) {
        DS_TRY(const auto nodes, number(environment, "SLURM_STEP_NUM_NODES"));
        launch.one_host = nodes.value_or(2) == 1;
        if (launch.one_host) launch.local_size = launch.size;
        if (launch.address.empty()) launch.address = first_host(text(environment, "SLURM_STEP_NODELIST"));
        launch.job += "." + text(environment, "SLURM_STEP_ID");
    } else {
        launch.one_host = launch.local_size ? launch.local_size == launch.size : is_local_name(launch.address) || launch.size == 1;
    }
    const bool torch = launch.by == kTorchrun.by;
    if (torch) {
        DS_TRY(const auto restart, number(environment, "TORCHELASTIC_RESTART_COUNT"));
        launch.restart = restart.value_or(0);
    }
    launch.port = port ? *port : torch ? 29500 : port_of(launch.job);
    // The agent itself listens at MASTER_PORT.
    if (torch && text(environment, "TORCHELASTIC_USE_AGENT_STORE") == "True") ++launch.port;
    if (torch && !launch.address_is_given && !launch.one_host)
        return fail(Code::E_CONFIG,
                    "WORLD_SIZE is {}, but MASTER_ADDR is not set: processes can't find rank 0 (torchrun sets both; with LOCAL_WORLD_SIZE "
                    "equal to WORLD_SIZE one host is meant)",
                    launch.size);
    return ok();
}

// Templates of some clusters count nodes with torchrun's variables.
Status check_counts_processes(const Environment& environment) {
    for (const char* name : {"PET_NPROC_PER_NODE", "NPROC_PER_NODE"}) {
        const std::string each = text(environment, name);
        if (!each.empty() && each != "1" && text(environment, "TORCHELASTIC_RUN_ID").empty() && text(environment, "LOCAL_RANK").empty())
            return fail(Code::E_CONFIG,
                        "RANK and WORLD_SIZE seem to count nodes, as {} is {} and LOCAL_RANK is not set: start the program with torchrun, "
                        "or set LOCAL_RANK for each process",
                        name, each);
    }
    return ok();
}

}  // namespace

std::string first_host(const std::string& list) {
    const size_t bracket = list.find('['), comma = list.find(',');
    if (bracket == list.npos || comma < bracket) return list.substr(0, comma);
    const size_t end = list.find_first_of(",-]", bracket);
    const size_t close = list.find(']', bracket), next = close == list.npos ? list.npos : list.find(',', close);
    std::string host = list.substr(0, bracket) + list.substr(bracket + 1, end == list.npos ? list.npos : end - bracket - 1);
    if (close != list.npos) host += list.substr(close + 1, next == list.npos ? list.npos : next - close - 1);
    return host;
}

Result<Launch> launch_of(const Environment& environment) {
    Launch found;
    for (const Launcher& launcher : kMpi) {
        DS_TRY(found, read(launcher, environment));
        if (!found.by.empty()) break;
    }
    DS_TRY(Launch torch, read(kTorchrun, environment));
    if (!torch.by.empty() && !found.by.empty() && (torch.rank != found.rank || torch.size != found.size))
        return fail(Code::E_CONFIG, "{} says that this is rank {} of {}, RANK and WORLD_SIZE that it is {} of {}: one of them must go",
                    found.by, found.rank, found.size, torch.rank, torch.size);
    if (found.by.empty() && !torch.by.empty()) {
        DS_CHECK(check_counts_processes(environment));
        found = std::move(torch);
    }
    if (found.by.empty()) { DS_TRY(found, read(kSlurm, environment)); }
    if (!found.by.empty()) DS_CHECK(find_rank_zero(found, environment));
    return found;
}

Result<Launch> launch_of_this_process() {
    return launch_of([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace ds
