// What ranks with pieces of one stream exchange, and how the parts of attention are put together. Without links (one rank) exchanges are
// copies.
#include <algorithm>
#include <vector>

#include "base/stripes.h"
#include "comm/communicator.h"
#include "kernels/ref/ref.h"
#include "ops/attrs_parallel.h"

namespace ds::ref {
namespace {

Communicator* group_of(const Call& c, int64_t group) { return c.runtime->links ? (*c.runtime->links)[group] : nullptr; }
void note(const Call& c, const Status& status) {
    if (c.runtime->links) c.runtime->links->note(status);
}
int64_t bytes_of(const Tensor& t) { return t.count() * size_of(t.dtype); }

// One side of a recut: a dense tensor that is whole along the dimension of which every rank has a share.
struct Side {
    const Tensor& whole;
    Cut cut;
    int64_t full;
    int ranks;

    int64_t bytes(int rank) const {
        return whole.count() / std::max<int64_t>(full, 1) * held(cut, full, rank, ranks) * size_of(whole.dtype);
    }
    std::vector<Block> blocks(std::byte* base) const {  // each rank's share, one behind the other
        std::vector<Block> list;
        for (int r = 0; r < ranks; ++r) {
            list.push_back({base, bytes(r)});
            base += list.back().bytes;
        }
        return list;
    }
    void move(std::byte* share, int rank, bool to_share) const {
        const int64_t size = size_of(whole.dtype);
        each_run({whole.dims, whole.dims + whole.rank}, cut, rank, ranks, [&](int64_t at, int64_t part, int64_t n) {
            std::byte *a = whole.as<std::byte>() + at * size, *b = share + part * size;
            if (to_share) std::memcpy(b, a, static_cast<size_t>(n * size));
            else std::memcpy(a, b, static_cast<size_t>(n * size));
        });
    }
};

Side sent(const Call& c) {
    const auto& r = c.attr<Recut>();
    return {c.in[0], {static_cast<int>(r.to_dim), r.to_period, r.to_units}, r.to_full, static_cast<int>(r.ranks)};
}
Side received(const Call& c) {
    const auto& r = c.attr<Recut>();
    return {c.out[0], {static_cast<int>(r.dim), r.period, r.units}, r.full, static_cast<int>(r.ranks)};
}

void recut_pack(const Call& c, Team team) {
    const Side side = sent(c);
    const auto blocks = side.blocks(c.scratch);
    for (int r = team.rank; r < side.ranks; r += team.size)
        side.move(static_cast<std::byte*>(blocks[static_cast<size_t>(r)].data), r, true);
}

void recut_exchange(const Call& c, Team team) {
    const auto to = sent(c).blocks(c.scratch), from = received(c).blocks(c.scratch + bytes_of(c.in[0]));
    if (Communicator* group = group_of(c, c.attr<Recut>().group)) return note(c, group->all_to_all(to, from, team));
    if (team.rank == 0)
        for (size_t r = 0; r < from.size(); ++r)
            std::memcpy(from[r].data, to[r].data, static_cast<size_t>(std::min(to[r].bytes, from[r].bytes)));
}

void recut_unpack(const Call& c, Team team) {
    const Side side = received(c);
    const auto blocks = side.blocks(c.scratch + bytes_of(c.in[0]));
    for (int r = team.rank; r < side.ranks; r += team.size)
        side.move(static_cast<std::byte*>(blocks[static_cast<size_t>(r)].data), r, false);
}

Result<Prepared> prepare_recut(const Request& r) {
    return Prepared{{recut_pack, recut_exchange, recut_unpack}, nullptr, bytes_of(r.in[0]) + bytes_of(r.out[0])};
}

void shift(const Call& c, Team team) {
    const auto& r = c.attr<Ring>();
    const auto before = static_cast<size_t>((r.rank + r.ranks - 1) % r.ranks), next = static_cast<size_t>((r.rank + 1) % r.ranks);
    if (Communicator* group = group_of(c, r.group)) {
        std::vector<Block> to(static_cast<size_t>(r.ranks)), from(static_cast<size_t>(r.ranks));
        to[before] = {c.in[0].data, bytes_of(c.in[0])};
        from[next] = {c.out[0].data, bytes_of(c.out[0])};
        return note(c, group->all_to_all(to, from, team));
    }
    if (team.rank == 0) std::memmove(c.out[0].data, c.in[0].data, static_cast<size_t>(std::min(bytes_of(c.in[0]), bytes_of(c.out[0]))));
}

void pad(const Call& c, Team team) {
    if (team.rank != 0) return;
    const Share& s = c.attr<Share>();
    std::memset(c.out[0].data, 0, static_cast<size_t>(bytes_of(c.out[0])));
    Side{c.out[0], {static_cast<int>(s.dim), s.period, s.units}, s.full, static_cast<int>(s.ranks)}.move(c.in[0].as<std::byte>(),
                                                                                                         static_cast<int>(s.rank), false);
}

// How many of the first `index` rows are this rank's.
int64_t before(const Share& s, int64_t index) {
    return held_before(Cut{static_cast<int>(s.dim), s.period, s.units}, index, s.full, static_cast<int>(s.rank), static_cast<int>(s.ranks));
}

void find_rows(const Call& c) {
    const Share& s = c.attr<Share>();
    const int32_t* x = c.in[0].as<int32_t>();
    for (int64_t i = 0; i < c.in[0].count(); ++i) {
        const bool inside = x[i] >= 0 && x[i] < s.full;
        const int64_t at = inside ? before(s, x[i]) : 0;
        c.out[0].as<int32_t>()[i] = inside && before(s, int64_t{x[i]} + 1) > at ? static_cast<int32_t>(at) : -1;
    }
}

void find_segments(const Call& c) {
    const Share& s = c.attr<Share>();
    for (int64_t i = 0; i < c.in[0].count(); ++i)
        c.out[0].as<int32_t>()[i] = static_cast<int32_t>(before(s, std::clamp<int64_t>(c.in[0].as<int32_t>()[i], 0, s.full)));
}

void find_first(const Call& c) {
    for (int64_t i = 0; i < c.out[0].count(); ++i)
        c.out[0].as<int32_t>()[i] = c.in[0].as<int32_t>()[std::clamp<int64_t>(c.in[1].as<int32_t>()[i], 0, c.in[0].count() - 1)];
}

// y of more keys is the mean of both parts' by exp(lse). Rows are independent.
void merge(const Call& c, Team team) {
    const Tensor &y = c.in[0], &y2 = c.in[2], &out = c.out[0];
    const float *lse = c.in[1].as<float>(), *lse2 = c.in[3].present ? c.in[3].as<float>() : nullptr;
    const int64_t heads = c.in[1].columns(), size = y.columns() / heads;
    const bool last = c.attr<Merge>().last;
    const auto [begin, end] = team.part(c.in[1].count(), heads);
    std::vector<float> row(static_cast<size_t>(2 * size));
    for (int64_t i = begin; i < end; ++i) {
        const float a = lse[i], b = lse2 ? lse2[i] : -INFINITY, most = std::max(a, b);
        const bool seen = a != -INFINITY || b != -INFINITY;  // or is a NaN, which goes on as one
        const float wa = seen ? std::exp(a - most) : 0, wb = seen ? std::exp(b - most) : 0, total = wa + wb;
        const float fa = seen ? wa / total : 0, fb = seen ? wb / total : 0;
        convert(element(y, i * size), y.dtype, row.data(), DType::f32, size);
        if (y2.present) convert(element(y2, i * size), y2.dtype, row.data() + size, DType::f32, size);
        for (int64_t k = 0; k < size; ++k)
            row[static_cast<size_t>(k)] = fa * row[static_cast<size_t>(k)] + (fb != 0 ? fb * row[static_cast<size_t>(size + k)] : 0);
        convert(row.data(), DType::f32, element(out, i * size), out.dtype, size);
        c.out[1].as<float>()[i] = seen ? most + std::log(total) : last ? 0 : -INFINITY;
    }
}

}  // namespace

static constexpr KernelImpl recut_list[] = {{"exchange", accepts_all, prepare_recut, true}};
static constexpr KernelImpl ring_shift_list[] = {{"exchange", accepts_all, simple<shift>, true}};
static constexpr KernelImpl pad_share_list[] = {{"copy", accepts_all, simple<pad>}};
static constexpr KernelImpl local_rows_list[] = {plain<find_rows>()};
static constexpr KernelImpl local_segments_list[] = {plain<find_segments>()};
static constexpr KernelImpl first_tokens_list[] = {plain<find_first>()};
static constexpr KernelImpl attention_merge_list[] = {{"rows", accepts_all, simple<merge>}};
extern const KernelList recut = recut_list;
extern const KernelList ring_shift = ring_shift_list;
extern const KernelList pad_share = pad_share_list;
extern const KernelList local_rows = local_rows_list;
extern const KernelList local_segments = local_segments_list;
extern const KernelList first_tokens = first_tokens_list;
extern const KernelList attention_merge = attention_merge_list;

}  // namespace ds::ref
