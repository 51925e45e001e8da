// Rows of experts between the ranks that hold them, as kernels/ref/expert_exchange.cpp. How many rows go where is known on the device, and
// NCCL takes sizes from the host: so the host waits once in each exchange, for everyone's counts. Without links (one rank) there is nothing
// to exchange.
#include "kernels/cuda/share.cuh"

namespace ds::cuda {
namespace {

// Experts [begin, begin + size) of all, which this rank holds.
struct Own {
    int64_t ranks, experts, begin, size;
};

// What the ranks have for the experts: counts[rank][expert], in device memory and, once the host has waited, in the host's.
class Counts {
public:
    explicit Counts(const ExpertGroup& g) : g_(g) {}
    ~Counts() {
        if (host_) cudaFreeHost(host_);
    }
    Status make() {
        void* memory = nullptr;
        if (cudaHostAlloc(&memory, static_cast<size_t>(bytes()), cudaHostAllocDefault) != cudaSuccess) {
            cudaGetLastError();
            return Status(Code::E_OUT_OF_MEMORY,
                          "cuda: " + std::to_string(bytes()) + " bytes of pinned memory for counts of rows could not be allocated");
        }
        host_ = static_cast<int32_t*>(memory);
        return ok();
    }

    int64_t bytes() const { return g_.ranks * g_.experts * 4; }
    Interval experts_of(int64_t rank) const { return near_even(g_.experts, rank, g_.ranks); }
    int64_t rows(int64_t from, int64_t to) const {  // that one rank has for another's experts
        int64_t n = 0;
        for (int64_t e = experts_of(to).begin; e < experts_of(to).end; ++e) n += host_[from * g_.experts + e];
        return n;
    }
    int64_t rows_here() const {
        int64_t n = 0;
        for (int64_t r = 0; r < g_.ranks; ++r) n += rows(r, g_.rank);
        return n;
    }
    int32_t* host() const { return host_; }
    size_t peer(int64_t r) const { return static_cast<size_t>(g_.base + r); }
    Own own() const { return {g_.ranks, g_.experts, experts_of(g_.rank).begin, experts_of(g_.rank).size()}; }

private:
    const ExpertGroup g_;
    int32_t* host_ = nullptr;
};

__global__ void count_kernel(Span<const int32_t> ends, Span<int32_t> counts, int64_t from) {
    const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (e + 1 < ends.n) counts.put(from + e, ends.get(e + 1) - ends.get(e));
}

// Where the row that lies `row`-th, sorted by sender, lies sorted by expert.
DS_DEVICE int64_t place_by_expert(const Own& own, const Span<const int32_t>& counts, int64_t row) {
    for (int64_t sender = 0; sender < own.ranks; ++sender)
        for (int64_t e = own.begin; e < own.begin + own.size; ++e) {
            const int64_t n = counts.get(sender * own.experts + e);
            if (row >= n) {
                row -= n;
                continue;
            }
            for (int64_t before = own.begin; before <= e; ++before)
                for (int64_t s = 0; s < (before < e ? own.ranks : sender); ++s) row += counts.get(s * own.experts + before);
            return row;
        }
    return row;
}

// A block a row.
template <class T>
__global__ void sort_kernel(Own own, Span<const int32_t> counts, Span<T> by_sender, Span<T> by_expert, int64_t rows, int64_t columns,
                            bool to_expert) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t place = place_by_expert(own, counts, row);
        for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) {
            if (to_expert) by_expert.put(place * columns + j, by_sender.get(row * columns + j));
            else by_sender.put(row * columns + j, by_expert.get(place * columns + j));
        }
    }
}

__global__ void own_ends_kernel(Own own, Span<const int32_t> counts, Span<int32_t> ends) {
    if (threadIdx.x != 0) return;
    int32_t end = 0;
    ends.put(0, 0);
    for (int64_t e = 0; e < own.size; ++e) {
        for (int64_t r = 0; r < own.ranks; ++r) end += counts.get(r * own.experts + own.begin + e);
        ends.put(e + 1, end);
    }
}

int64_t counts_bytes(const Counts& counts) { return round_up(counts.bytes(), 256); }

// Everyone's counts, to everyone and to the host. False: something failed.
bool tell(const Call& c, Queue& q, const Counts& counts) {
    const auto& g = c.attr<ExpertGroup>();
    const Span<int32_t> there = scratch<int32_t>(c, 0, g.ranks * g.experts);
    launch(q, blocks_for(g.experts, kThreads), kThreads, 0, count_kernel, span<const int32_t>(c.in[1]), there, g.rank * g.experts);
    if (Communicator* links = group_of(c, g.group); links && !q.failed()) {
        std::vector<Block> send(static_cast<size_t>(links->size())), receive(send.size());
        for (int64_t r = 0; r < g.ranks; ++r) {
            send[counts.peer(r)] = {there.data + g.rank * g.experts, g.experts * 4};
            receive[counts.peer(r)] = {there.data + r * g.experts, g.experts * 4};
        }
        q.note_link(links->all_to_all(send, receive, kAlone));
    }
    if (q.failed()) return false;
    q.note(cudaMemcpyAsync(counts.host(), there.data, static_cast<size_t>(counts.bytes()), cudaMemcpyDeviceToHost, q.stream),
           "copying counts of rows");
    return q.wait().ok() && !q.failed();
}

// home: rows sorted by expert, this rank's. away: rows of this rank's experts sorted by sender.
void exchange(const Call& c, Queue& q, const Counts& counts, std::byte* home, std::byte* away, int64_t row_bytes, bool outward) {
    const auto& g = c.attr<ExpertGroup>();
    Communicator* links = group_of(c, g.group);
    if (!links) return copy_bytes(q, outward ? away : home, outward ? home : away, counts.rows_here() * row_bytes);
    std::vector<Block> at_home(static_cast<size_t>(links->size())), apart(at_home.size());
    for (int64_t r = 0; r < g.ranks; ++r) {
        at_home[counts.peer(r)] = {home, counts.rows(g.rank, r) * row_bytes};
        apart[counts.peer(r)] = {away, counts.rows(r, g.rank) * row_bytes};
        home += counts.rows(g.rank, r) * row_bytes;
        away += counts.rows(r, g.rank) * row_bytes;
    }
    q.note_link(outward ? links->all_to_all(at_home, apart, kAlone) : links->all_to_all(apart, at_home, kAlone));
}

void sort(const Call& c, Queue& q, const Counts& counts, const Tensor& by_expert, bool to_expert) {
    const auto& g = c.attr<ExpertGroup>();
    const int64_t rows = counts.rows_here(), columns = by_expert.columns();
    if (rows == 0 || columns == 0) return;
    const auto move = [&](auto zero) {
        using T = decltype(zero);
        launch(q, striding_blocks(rows, 1), kThreads, 0, sort_kernel<T>, counts.own(),
               Span<const int32_t>{reinterpret_cast<const int32_t*>(c.scratch), g.ranks * g.experts},
               Span<T>{reinterpret_cast<T*>(c.scratch + counts_bytes(counts)), rows * columns},
               Span<T>{by_expert.as<T>(), by_expert.count()}, rows, columns, to_expert);
    };
    if (size_of(by_expert.dtype) == 2) move(uint16_t{});
    else move(uint32_t{});
}

void send(const Call& c, Queue& q) {
    const auto& counts = *static_cast<const Counts*>(c.state);
    if (!tell(c, q, counts)) return;
    const Tensor &x = c.in[0], &out = c.out[0];
    const int64_t row_bytes = x.columns() * size_of(x.dtype), rows = counts.rows_here();
    if (rows > out.rows())
        return q.note(Status(Code::E_INTERNAL, "cuda: expert_send: " + std::to_string(rows) + " rows come where there is room for " +
                                                   std::to_string(out.rows())));
    exchange(c, q, counts, x.as<std::byte>(), c.scratch + counts_bytes(counts), row_bytes, true);
    sort(c, q, counts, out, true);
    clear_bytes(q, out.as<std::byte>() + rows * row_bytes, (out.rows() - rows) * row_bytes);
    launch(q, 1, kWarp, 0, own_ends_kernel, counts.own(),
           Span<const int32_t>{reinterpret_cast<const int32_t*>(c.scratch), counts.bytes() / 4}, span<int32_t>(c.out[1]));
}

void send_back(const Call& c, Queue& q) {
    const auto& counts = *static_cast<const Counts*>(c.state);
    if (!tell(c, q, counts)) return;
    const Tensor &x = c.in[0], &out = c.out[0];
    clear_bytes(q, out.data, bytes_of(out));  // rows that no expert took stay zero
    sort(c, q, counts, x, false);
    exchange(c, q, counts, out.as<std::byte>(), c.scratch + counts_bytes(counts), x.columns() * size_of(x.dtype), false);
}

template <void (*run)(const Call&, Queue&)>
Result<Prepared> prepare(const Request& r) {
    const auto& g = r.attr<ExpertGroup>();
    auto counts = std::make_shared<Counts>(g);
    DS_CHECK(counts->make());
    const int64_t bytes = counts_bytes(*counts) + g.rows * r.in[0].columns() * size_of(r.in[0].dtype);
    return Prepared{{queued<run>}, std::move(counts), bytes};
}

const char* declines(const Request& r) {
    for (const auto& list : {r.in, r.out})
        for (const Tensor& t : list)
            if (t.present && !t.dense()) return "rows lie apart";
    return is_number(r.in[0].dtype) ? nullptr : "x is neither f32, bf16 nor f16";
}

constexpr KernelImpl kSend[] = {{"cuda", declines, prepare<send>, true}}, kReturn[] = {{"cuda", declines, prepare<send_back>, true}};

}  // namespace

extern const KernelList expert_send{kSend}, expert_return{kReturn};

}  // namespace ds::cuda
