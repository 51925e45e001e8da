// NCCL as far as it is used: non-blocking communicators, grouped sends and receives, finalize, abort. Ranks are threads of this process.
// Work of a communicator is an operation of a stream, which goes on when what the other ranks must bring is there; so a rank that does not
// come leaves the others waiting, as on GPUs. Sizes that differ, which NCCL would not notice, are told.
#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "tests/cuda/emulate/api.h"
#include "tests/cuda/emulate/control.h"
#include "tests/cuda/emulate/memory.h"
#include "tests/cuda/emulate/stream.h"

namespace emu {
namespace {

struct Part {
    int rank = 0, peer = 0;
    bool sends = false, done = false;
    char* data = nullptr;
    size_t bytes = 0;
    uint32_t operation = 0;  // that it belongs to
    Clock known = {};
    Doing by() const { return {operation, &known}; }
};

struct Clique {
    explicit Clique(int n)
        : size(n),
          devices(static_cast<size_t>(n), -1),
          aborted(static_cast<size_t>(n), false),
          left(aborted),
          streams(static_cast<size_t>(n)) {}
    int size, came = 0;
    std::vector<int> devices;
    std::vector<bool> aborted, left;              // left: finalized or aborted
    std::vector<std::deque<EmuStream*>> streams;  // of each rank: where its work that is not done yet lies
    std::map<std::pair<int, int>, std::deque<std::shared_ptr<Part>>> sends, receives;  // (from, to): that have begun
};

std::map<std::string, std::shared_ptr<Clique>>& cliques() {
    static auto& all = *new std::map<std::string, std::shared_ptr<Clique>>;
    return all;
}

std::string copy(const Clique& clique, Part& from, Part& to) {
    if (from.bytes != to.bytes) return "ncclSend of " + std::to_string(from.bytes) + " bytes meets ncclRecv of " + std::to_string(to.bytes);
    Memory& memory = Memory::get();
    const Doing sends = from.by(), receives = to.by();
    if (std::string why = memory.refuses(from.data, from.bytes, true, clique.devices[static_cast<size_t>(from.rank)], &sends); !why.empty())
        return "ncclSend: the memory " + why;
    if (std::string why = memory.refuses(to.data, to.bytes, false, clique.devices[static_cast<size_t>(to.rank)], &receives); !why.empty())
        return "ncclRecv: the memory " + why;
    std::memmove(memory.inside(to.data), memory.inside(from.data), from.bytes);
    memory.mark(to.data, to.bytes, ByteState::written);
    from.done = to.done = true;
    return {};
}

// What a rank does in one group call.
class Batch {
public:
    Batch(std::shared_ptr<Clique> clique, int rank, std::vector<std::shared_ptr<Part>> parts)
        : clique_(std::move(clique)), rank_(rank), parts_(std::move(parts)) {}

    std::string run() {
        auto& own = clique_->streams[static_cast<size_t>(rank_)];
        if (!clique_->aborted[static_cast<size_t>(rank_)]) {
            if (!std::exchange(begun_, true)) {
                count_beside();
                for (const auto& part : parts_)
                    part->operation = doing().operation, part->known = *doing().known, lane(*part).push_back(part);
            }
            for (const auto& part : parts_) {
                if (std::string wrong = match(*part); !wrong.empty()) return wrong;
                auto& theirs = clique_->streams[static_cast<size_t>(part->peer)];
                while (!part->done && !theirs.empty() && ::emu::streams().count(theirs.front()) && step(*theirs.front())) {
                    if (std::string wrong = match(*part); !wrong.empty()) return wrong;
                }
                if (!part->done) return kNotYet;
            }
        }
        own.pop_front();
        return {};
    }

private:
    std::deque<std::shared_ptr<Part>>& lane(const Part& p) const {
        return p.sends ? clique_->sends[{p.rank, p.peer}] : clique_->receives[{p.peer, p.rank}];
    }
    std::string match(const Part& p) const {
        const std::pair<int, int> key = p.sends ? std::pair(p.rank, p.peer) : std::pair(p.peer, p.rank);
        auto &sends = clique_->sends[key], &receives = clique_->receives[key];
        while (!sends.empty() && !receives.empty()) {
            if (std::string wrong = copy(*clique_, *sends.front(), *receives.front()); !wrong.empty()) return wrong;
            sends.pop_front(), receives.pop_front();
        }
        return {};
    }

    const std::shared_ptr<Clique> clique_;
    const int rank_;
    const std::vector<std::shared_ptr<Part>> parts_;
    bool begun_ = false;
};

}  // namespace
}  // namespace emu

using namespace emu;

struct ncclComm {
    std::shared_ptr<Clique> clique;
    int rank = 0;
    bool settled = false;  // it was asked once since its last call
    bool finalized = false;
};

namespace {

struct Grouped {
    ncclComm* comm = nullptr;
    cudaStream_t stream = nullptr;
    std::vector<std::shared_ptr<Part>> parts;
};
int64_t aborts = 0;
thread_local int depth = 0;
thread_local std::vector<Grouped> grouped;
thread_local ncclResult_t grouped_error = ncclSuccess;  // of a call in the group: its end answers that and queues nothing

#define NCCL_CALL()                    \
    std::lock_guard emu_lock(mutex()); \
    if (fails(__func__)) return ncclSystemError

ncclResult_t add(char* data, size_t bytes, int peer, bool sends, ncclComm* comm, cudaStream_t stream) {
    if (fails(sends ? "ncclSend" : "ncclRecv")) return grouped_error = ncclSystemError;
    if (depth == 0) return told("ncclSend or ncclRecv outside of a group"), ncclInvalidUsage;
    if (!comm || peer < 0 || peer >= comm->clique->size || peer == comm->rank) return ncclInvalidArgument;
    if (comm->clique->came < comm->clique->size) return told("a communicator is used before it is there"), ncclInvalidUsage;
    if (grouped.empty() || grouped.back().comm != comm || grouped.back().stream != stream) grouped.push_back({comm, stream, {}});
    grouped.back().parts.push_back(std::make_shared<Part>(Part{comm->rank, peer, sends, false, data, bytes}));
    return ncclSuccess;
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
    }
}
const char* ncclGetLastError(ncclComm_t) { return ""; }
ncclResult_t ncclGetVersion(int* version) { return *version = 22803, ncclSuccess; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    NCCL_CALL();
    static int64_t made = 0;
    std::memset(id, 0, sizeof *id);
    ++made;
    std::memcpy(id->internal, &made, sizeof made);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
    NCCL_CALL();
    if (config->size != sizeof *config || config->magic != ncclConfig_t{}.magic || ranks < 1 || rank < 0 || rank >= ranks)
        return ncclInvalidArgument;
    if (config->blocking != 0) return told("a communicator that blocks could not be ended"), ncclInvalidUsage;
    auto& clique = cliques()[std::string(id.internal, sizeof id.internal)];
    if (!clique) clique = std::make_shared<Clique>(ranks);
    for (const int device : clique->devices)
        if (device == device_of_thread()) return ncclInvalidUsage;  // two ranks on one device
    if (clique->size != ranks || clique->devices[static_cast<size_t>(rank)] >= 0) return ncclInvalidUsage;
    clique->devices[static_cast<size_t>(rank)] = device_of_thread();
    ++clique->came;
    *comm = new ncclComm{clique, rank};
    count_live(1);
    moved().notify_all();
    return ncclInProgress;
}
// Whether nothing of the communicator's is under way, on any rank.
bool is_at_rest(const ncclComm& comm) {
    const Clique& clique = *comm.clique;
    auto& own = clique.streams[static_cast<size_t>(comm.rank)];
    while (!own.empty() && step(*own.front())) {}
    return own.empty() && std::find(clique.left.begin(), clique.left.end(), false) == clique.left.end();
}
// A look: can't be made to fail.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    std::lock_guard lock(mutex());
    if (comm->finalized) return *state = is_at_rest(*comm) ? ncclSuccess : ncclInProgress, ncclSuccess;
    *state = comm->clique->came < comm->clique->size || !std::exchange(comm->settled, true) ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    NCCL_CALL();
    if (comm->finalized) return told("a communicator is finalized again"), ncclInvalidUsage;
    comm->finalized = true;
    comm->clique->left[static_cast<size_t>(comm->rank)] = true;
    return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    NCCL_CALL();
    if (!comm->finalized || !is_at_rest(*comm)) told("a communicator is destroyed that is not at rest");
    delete comm;
    count_live(-1);
    return ncclSuccess;
}
int64_t emu_aborted() {
    std::lock_guard lock(mutex());
    return aborts;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    std::lock_guard lock(mutex());
    ++aborts;
    const auto rank = static_cast<size_t>(comm->rank);
    comm->clique->aborted[rank] = comm->clique->left[rank] = true;
    delete comm;
    count_live(-1);
    moved().notify_all();
    return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
    NCCL_CALL();
    ++depth;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
    std::lock_guard lock(mutex());
    if (depth == 0) return ncclInvalidUsage;
    if (--depth > 0) return ncclSuccess;
    const std::vector<Grouped> all = std::exchange(grouped, {});
    if (const ncclResult_t error = std::exchange(grouped_error, ncclSuccess); error != ncclSuccess) return error;
    if (fails(__func__)) return ncclSystemError;
    for (const Grouped& g : all) {
        g.stream->exchanges = true;
        if (g.stream->recording) return told("work of NCCL in a recorded graph"), ncclInvalidUsage;
        const auto batch = std::make_shared<Batch>(g.comm->clique, g.comm->rank, g.parts);
        g.comm->clique->streams[static_cast<size_t>(g.comm->rank)].push_back(g.stream);
        if (queue(g.stream, [batch] { return batch->run(); }) != cudaSuccess)
            return g.comm->clique->streams[static_cast<size_t>(g.comm->rank)].pop_back(), ncclUnhandledCudaError;
        g.comm->settled = false;
    }
    return ncclInProgress;
}
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
    std::lock_guard lock(mutex());
    return add(static_cast<char*>(const_cast<void*>(data)), count, peer, true, comm, stream);
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
    std::lock_guard lock(mutex());
    return add(static_cast<char*>(data), count, peer, false, comm, stream);
}
