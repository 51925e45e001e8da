#include "kernels/cuda/group.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>

#if defined(DS_HAS_NCCL) && !defined(DS_CUDA_EMULATED)
#include <dlfcn.h>
#endif

#include "base/round.h"

namespace ds::cuda {
namespace {

constexpr int64_t kSmall = 64 << 10;             // bytes that members send whole rather than in shares: one round instead of two
constexpr int64_t kScratch = int64_t{32} << 20;  // what others' summands may take; more go in turns

#ifdef DS_HAS_NCCL
#define DS_NCCL_FUNCTIONS(X)  \
    X(ncclGetVersion)         \
    X(ncclGetUniqueId)        \
    X(ncclCommInitRankConfig) \
    X(ncclCommGetAsyncError)  \
    X(ncclCommFinalize)       \
    X(ncclCommDestroy)        \
    X(ncclCommAbort)          \
    X(ncclGetErrorString)     \
    X(ncclGetLastError)       \
    X(ncclGroupStart)         \
    X(ncclGroupEnd)           \
    X(ncclSend)               \
    X(ncclRecv)

struct Library {
#define X(name) decltype(&::name) name = nullptr;
    DS_NCCL_FUNCTIONS(X)
#undef X

    Status load() {
#ifdef DS_CUDA_EMULATED
#define X(name) name = &::name;
        DS_NCCL_FUNCTIONS(X)
#undef X
#else
        constexpr const char* file = "libnccl.so.2";
        void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            return fail(Code::E_UNSUPPORTED,
                        "cuda: several GPUs need NCCL: {}, looked for in LD_LIBRARY_PATH and the system's folders, cannot be loaded: {}; "
                        "install NCCL 2 for CUDA 13, or add its folder to LD_LIBRARY_PATH",
                        file, dlerror());
#define X(name)                                                     \
    name = reinterpret_cast<decltype(name)>(dlsym(library, #name)); \
    if (!name) return fail(Code::E_UNSUPPORTED, "cuda: {} has no {}: it is older than NCCL 2.14", file, #name);
        DS_NCCL_FUNCTIONS(X)
#undef X
#endif
        return ok();
    }
    Status answer(ncclResult_t result, const char* doing, ncclComm* comm = nullptr) const {
        if (result == ncclSuccess || result == ncclInProgress) return ok();
        const char* more = comm ? ncclGetLastError(comm) : "";
        return fail(Code::E_COMM, "cuda: NCCL: {}: {}{}{}", doing, ncclGetErrorString(result), more && *more ? ": " : "", more ? more : "");
    }
};

struct Loaded {
    Library library;
    Status status = library.load();
};
const Loaded& loaded() {
    static const Loaded once;
    return once;
}
const Library& nccl() { return loaded().library; }

// Members of a group in this process. None comes to rest before all have begun to leave, and one thread may end them all, one behind the
// other; so those that have begun wait here for the last of them.
struct Leaving {
    int members = 0;
    bool well = true;
    std::vector<ncclComm*> begun;
};
std::mutex leaving_mutex;
std::map<std::string, Leaving>& leaving() {  // by group
    static auto& all = *new std::map<std::string, Leaving>;
    return all;
}
std::string key_of(const BackendGroupId& id) { return {reinterpret_cast<const char*>(&id), sizeof id}; }
#endif

}  // namespace

#ifndef DS_HAS_NCCL
namespace {
Status none() {
    return fail(Code::E_UNSUPPORTED, "cuda: several GPUs need NCCL, but nccl.h was not there when this libdsrt_cuda.so was built");
}
}  // namespace
Status load_nccl(int&) { return none(); }
Status make_group_id(BackendGroupId&) { return none(); }
Status Member::make() { return none(); }
Status Member::settle(const char*) { return none(); }
void Member::leave() {}
Status Member::look() { return none(); }
void Member::abort() {}
Status Member::send_and_receive(const BackendBlock*, const BackendBlock*) { return none(); }
#else

Status load_nccl(int& version) {
    DS_CHECK(loaded().status);
    return nccl().answer(nccl().ncclGetVersion(&version), "asking for its version");
}

Status make_group_id(BackendGroupId& id) {
    DS_CHECK(loaded().status);
    static_assert(sizeof(ncclUniqueId) == sizeof(BackendGroupId));
    return nccl().answer(nccl().ncclGetUniqueId(reinterpret_cast<ncclUniqueId*>(&id)), "making an id");
}

Status Member::make() {
    DS_CHECK(loaded().status);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclUniqueId id;
    std::copy_n(reinterpret_cast<const char*>(&group_.id), sizeof id.internal, id.internal);
    {
        std::lock_guard lock(leaving_mutex);
        ++leaving()[key_of(group_.id)].members;
        counted_ = true;
    }
    DS_CHECK(nccl().answer(nccl().ncclCommInitRankConfig(&comm_, group_.size, id, group_.rank, &config), "joining a group"));
    DS_CHECK(settle("joining a group"));
    joined_ = true;
    return ok();
}

// What a call of NCCL began goes on by itself; meanwhile the others may turn out to be gone.
Status Member::settle(const char* doing) {
    const auto begin = Clock::now();
    for (int64_t turn = 0;; ++turn) {
        ncclResult_t state = ncclInProgress;
        DS_CHECK(nccl().answer(nccl().ncclCommGetAsyncError(comm_, &state), doing, comm_));
        DS_CHECK(nccl().answer(state, doing, comm_));
        if (state == ncclSuccess) return ok();
        const bool late = Clock::now() - begin > std::chrono::milliseconds(group_.deadline_ms);
        if (late && !counted_) return fail(Code::E_TIMEOUT, "cuda: NCCL: {} takes too long", doing);  // and is nobody's failure
        DS_CHECK(trouble(late ? queued_ + 1 : 0));
        if (turn < 1000) std::this_thread::yield();
        else std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

Status Member::look() {
    DS_CHECK(trouble(0));
    ncclResult_t state = ncclSuccess;
    if (comm_) DS_CHECK(nccl().answer(nccl().ncclCommGetAsyncError(comm_, &state), "exchanging", comm_));
    DS_CHECK(nccl().answer(state, "exchanging", comm_));
    while (passed_ < queued_ && cudaEventQuery(slot(passed_).done) == cudaSuccess) ++passed_, since_.reset();
    if (passed_ == queued_) return ok();
    if (!since_ && cudaEventQuery(slot(passed_).begun) == cudaSuccess) since_ = Clock::now();
    return trouble(since_ && Clock::now() - *since_ > std::chrono::milliseconds(group_.deadline_ms) ? passed_ + 1 : 0);
}

// A group that is well and at rest is finalized, so that NCCL gives back what its members share in order. What others don't bring to an end
// before the deadline, and all else, is aborted.
void Member::leave() {
    if (!std::exchange(counted_, false)) return;
    const bool well = joined_ && comm_ && !queue_.failed() && look().ok() && passed_ == queued_ &&
                      nccl().answer(nccl().ncclCommFinalize(comm_), "leaving a group", comm_).ok();
    Leaving all;
    {
        std::lock_guard lock(leaving_mutex);
        const auto here = leaving().find(key_of(group_.id));
        here->second.well &= well;
        if (well) here->second.begun.push_back(std::exchange(comm_, nullptr));
        if (--here->second.members == 0) all = std::move(here->second), leaving().erase(here);
    }
    abort();
    for (ncclComm* comm : all.begun) {
        comm_ = comm;
        if (all.well && settle("leaving a group").ok() && nccl().answer(nccl().ncclCommDestroy(comm_), "leaving a group").ok())
            comm_ = nullptr;
        abort();
    }
}

void Member::abort() {
    if (comm_) nccl().ncclCommAbort(comm_);
    comm_ = nullptr;
}

Status Member::send_and_receive(const BackendBlock* send, const BackendBlock* receive) {
    if (!comm_) return fail(Code::E_COMM, "cuda: this group of devices has ended");
    DS_CHECK(nccl().answer(nccl().ncclGroupStart(), "beginning an exchange"));
    ncclResult_t first = ncclSuccess;
    const auto add = [&](ncclResult_t result) {
        if (first == ncclSuccess && result != ncclInProgress) first = result;
    };
    bool any = false;
    for (int i = 1; i < group_.size; ++i) {
        const int to = (group_.rank + i) % group_.size, from = (group_.rank + group_.size - i) % group_.size;
        if (send[to].bytes)
            any = true, add(nccl().ncclSend(send[to].data, static_cast<size_t>(send[to].bytes), ncclUint8, to, comm_, queue_.stream));
        if (receive[from].bytes)
            any = true,
            add(nccl().ncclRecv(receive[from].data, static_cast<size_t>(receive[from].bytes), ncclUint8, from, comm_, queue_.stream));
    }
    const ncclResult_t ended = nccl().ncclGroupEnd();
    DS_CHECK(nccl().answer(first, "queueing an exchange", comm_));
    DS_CHECK(nccl().answer(ended, "queueing an exchange", comm_));
    return any ? settle("queueing an exchange") : ok();
}
#endif

Result<std::unique_ptr<Member>> Member::join(Queue& queue, const BackendGroup& group) {
    auto member = std::unique_ptr<Member>(new Member(queue, group));
    DS_CHECK(member->make());
    queue.members.push_back(member.get());
    return member;
}

// What is under way ends without the others' help, or has ended: then this only gives memory back. That waits for all that runs on the
// device, also for other groups' exchanges, which may wait for other devices in vain: those of a device that failed end here.
Member::~Member() {
    if (queue_.failed()) queue_.abort();
    leave();
    std::erase(queue_.members, this);
    if (queue_.members.empty()) queue_.synchronize();
    else if (!memory_.empty()) static_cast<void>(queue_.wait());
    for (Slot& s : slots_)
        for (cudaEvent_t event : {s.begun, s.done})
            if (event) cudaEventDestroy(event);
    for (void* memory : memory_) cudaFree(memory);
}

Status Member::trouble(int64_t overdue) {
    char text[1024] = {};
    const int32_t code = group_.look(group_.user, overdue, text, sizeof text);
    return code >= 0 ? ok() : Status(static_cast<Code>(code), text);
}

Status Member::begin() {
    if (queue_.failed()) return queue_.why();
    Slot& s = slot(queued_);
    if (s.done && queued_ - passed_ >= kSlots) DS_CHECK(queue_.wait(s.done));
    if (!s.begun) DS_CHECK(check(cudaEventCreateWithFlags(&s.begun, cudaEventDisableTiming), "making an event"));
    if (!s.done) DS_CHECK(check(cudaEventCreateWithFlags(&s.done, cudaEventDisableTiming), "making an event"));
    return check(cudaEventRecord(s.begun, queue_.stream), "recording an event");
}

Status Member::end() {
    DS_CHECK(check(cudaEventRecord(slot(queued_).done, queue_.stream), "recording an event"));
    ++queued_;
    while (passed_ < queued_ - kSlots) ++passed_, since_.reset();  // begin() has waited for those
    return ok();
}

Result<std::byte*> Member::scratch(int64_t bytes) {
    if (bytes > room_) {
        void* memory = nullptr;
        DS_CHECK(check(cudaMalloc(&memory, static_cast<size_t>(bytes)), "allocating"));
        memory_.push_back(memory);
        room_ = bytes;
    }
    return static_cast<std::byte*>(memory_.back());
}

template <class F>
Status Member::beside(const F& work) {
    const bool own = !queue_.is_beside();
    if (own) DS_CHECK(queue_.begin_beside());
    Status status = begin();
    if (status.ok()) status = work();
    if (status.ok()) status = end();
    if (!own) return status;
    auto mark = queue_.end_beside();
    DS_CHECK(status);
    return mark.ok() ? queue_.await(*mark) : std::move(mark).status();
}

Status Member::exchange(const BackendBlock* send, const BackendBlock* receive) {
    return beside([&]() -> Status {
        DS_CHECK(send_and_receive(send, receive));
        const BackendBlock &from = send[group_.rank], &to = receive[group_.rank];
        if (to.bytes == 0 || from.data == to.data) return ok();
        return check(cudaMemcpyAsync(to.data, from.data, static_cast<size_t>(to.bytes), cudaMemcpyDeviceToDevice, queue_.stream),
                     "copying");
    });
}

Status Member::reduce_scatter(const BackendBlock* send, BackendBlock out, DType dtype) {
    return beside([&] { return sum_parts(send, out, dtype); });
}

Status Member::all_reduce(BackendBlock data, DType dtype) {
    return beside([&] { return sum_everywhere(data, dtype); });
}

Status Member::sum_parts(const BackendBlock* send, BackendBlock out, DType dtype) {
    const int64_t size = size_of(dtype), ranks = group_.size;
    int64_t largest = 0;
    for (int r = 0; r < ranks; ++r) largest = std::max(largest, send[r].bytes);
    const int64_t turn = std::min(kScratch / ranks / 256 * 256, round_up(largest, 256));
    std::vector<BackendBlock> to(static_cast<size_t>(ranks)), from(to.size());
    for (int64_t at = 0; at < largest; at += turn) {
        DS_TRY(std::byte * others, scratch(ranks * turn));
        const auto part = [&](BackendBlock whole) {
            return BackendBlock{static_cast<std::byte*>(whole.data) + std::min(at, whole.bytes),
                                std::clamp<int64_t>(whole.bytes - at, 0, turn)};
        };
        const BackendBlock mine = part(out), own = part(send[group_.rank]);
        for (size_t r = 0; r < to.size(); ++r) to[r] = part(send[r]), from[r] = {others + static_cast<int64_t>(r) * turn, mine.bytes};
        DS_CHECK(send_and_receive(to.data(), from.data()));
        DS_CHECK(sum_ranks(queue_, mine.data, own.data, others, turn, group_.rank, static_cast<int>(ranks), dtype, mine.bytes / size));
    }
    return ok();
}

// Each member sums its share for all, and the shares are gathered; what is small goes whole to everybody, in one round.
Status Member::sum_everywhere(BackendBlock data, DType dtype) {
    const int64_t size = size_of(dtype), ranks = group_.size, me = group_.rank;
    std::vector<BackendBlock> to(static_cast<size_t>(ranks)), from(to.size());
    if (data.bytes <= kSmall) {
        const int64_t stride = round_up(data.bytes, 256);
        DS_TRY(std::byte * others, scratch(std::max<int64_t>(ranks * stride, 1)));
        for (size_t r = 0; r < to.size(); ++r) to[r] = data, from[r] = {others + static_cast<int64_t>(r) * stride, data.bytes};
        DS_CHECK(send_and_receive(to.data(), from.data()));
        return sum_ranks(queue_, data.data, data.data, others, stride, group_.rank, group_.size, dtype, data.bytes / size);
    }
    for (int64_t at = 0; at < data.bytes; at += kScratch) {
        const int64_t bytes = std::min(kScratch, data.bytes - at), grain = 256, grains = (bytes + grain - 1) / grain;
        const auto begin_of = [&](int64_t r) { return std::min(grains * r / ranks * grain, bytes); };
        const int64_t stride = (grains / ranks + 1) * grain;
        DS_TRY(std::byte * others, scratch(ranks * stride));
        auto* base = static_cast<std::byte*>(data.data) + at;
        const BackendBlock mine{base + begin_of(me), begin_of(me + 1) - begin_of(me)};
        for (int64_t r = 0; r < ranks; ++r) {
            to[static_cast<size_t>(r)] = {base + begin_of(r), begin_of(r + 1) - begin_of(r)};
            from[static_cast<size_t>(r)] = {others + r * stride, mine.bytes};
        }
        DS_CHECK(send_and_receive(to.data(), from.data()));
        DS_CHECK(sum_ranks(queue_, mine.data, mine.data, others, stride, group_.rank, group_.size, dtype, mine.bytes / size));
        std::swap(from, to);  // receives are the shares now
        for (BackendBlock& block : to) block = mine;
        DS_CHECK(send_and_receive(to.data(), from.data()));
    }
    return ok();
}

void Queue::abort() {
    for (Member* member : members) member->abort();
}

Status Queue::wait(cudaEvent_t event) {
    if (!event && !is_beside()) note(await_all());
    if (members.empty()) {
        note(event ? cudaEventSynchronize(event) : cudaStreamSynchronize(stream), "running what was queued");
        return why();
    }
    for (int64_t turn = 0;; ++turn) {
        const cudaError_t state = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
        if (state == cudaSuccess) return why();
        if (state != cudaErrorNotReady) {
            note(state, "running what was queued");
            return why();
        }
        cudaGetLastError();
        for (Member* member : members)
            if (Status status = member->look(); !status.ok()) note_link(std::move(status));
        if (!link_failure.ok()) {
            abort();
            synchronize();
            return why();
        }
        if (turn < 2000) std::this_thread::yield();
        else std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
}

}  // namespace ds::cuda
