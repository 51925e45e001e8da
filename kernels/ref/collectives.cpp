// Collectives of a plan: what leaves this rank is packed rank by rank, exchanged, and unpacked. Without links (one rank) they are copies.
#include <algorithm>
#include <vector>

#include "base/stripes.h"
#include "comm/communicator.h"
#include "kernels/ref/ref.h"
#include "ops/attrs.h"

namespace ds::ref {
namespace {

Communicator* group_of(const Call& c, int64_t group) { return c.runtime->links ? (*c.runtime->links)[group] : nullptr; }

std::vector<int64_t> shape_of(const Tensor& t) { return {t.dims, t.dims + t.rank}; }

// Copies between a dense whole tensor and the dense share of `rank`.
void move_share(const Tensor& whole, std::byte* share, const Share& s, int64_t rank, bool to_share) {
    const int64_t size = size_of(whole.dtype);
    each_run(shape_of(whole), Cut{static_cast<int>(s.dim), s.period, s.units}, static_cast<int>(rank), static_cast<int>(s.ranks),
             [&](int64_t at, int64_t part, int64_t n) {
                 std::byte *a = whole.as<std::byte>() + at * size, *b = share + part * size;
                 if (to_share) std::memcpy(b, a, static_cast<size_t>(n * size));
                 else std::memcpy(a, b, static_cast<size_t>(n * size));
             });
}

// Each rank's share of `whole`, one behind the other.
std::vector<Block> blocks_of(std::byte* base, const Tensor& whole, const Share& s) {
    std::vector<Block> blocks;
    const Cut cut{static_cast<int>(s.dim), s.period, s.units};
    for (int r = 0; r < s.ranks; ++r) {
        const int64_t bytes = whole.count() / s.full * held(cut, s.full, r, static_cast<int>(s.ranks)) * size_of(whole.dtype);
        blocks.push_back({base, bytes});
        base += bytes;
    }
    return blocks;
}

void note(const Call& c, const Status& status) {
    if (c.runtime->links) c.runtime->links->note(status);
}

void copy_in(const Call& c, Team team) {
    const Team::Range part = team.part(c.out[0].count() * size_of(c.out[0].dtype), 64);
    if (c.in[0].data != c.out[0].data && part.end > part.begin)
        std::memcpy(c.out[0].as<std::byte>() + part.begin, c.in[0].as<std::byte>() + part.begin,
                    static_cast<size_t>(part.end - part.begin));
}

void sum_out(const Call& c, Team team) {
    if (Communicator* group = group_of(c, c.attr<Exchange>().group))
        note(c, group->all_reduce({c.out[0].data, c.out[0].count() * size_of(c.out[0].dtype)}, c.out[0].dtype, team));
}

void take(const Call& c, Team team) {
    const Share& s = c.attr<Share>();
    if (team.rank == 0) move_share(c.in[0], c.out[0].as<std::byte>(), s, s.rank, true);
}

void gather_exchange(const Call& c, Team team) {
    const Share& s = c.attr<Share>();
    Communicator* group = group_of(c, s.group);
    if (group)
        note(c, group->all_gather({c.in[0].data, c.in[0].count() * size_of(c.in[0].dtype)}, blocks_of(c.scratch, c.out[0], s), team));
}

void gather_unpack(const Call& c, Team team) {
    const Share& s = c.attr<Share>();
    const std::vector<Block> blocks = blocks_of(c.scratch, c.out[0], s);
    for (int64_t r = team.rank; r < s.ranks; r += team.size)
        move_share(c.out[0], r == s.rank ? c.in[0].as<std::byte>() : static_cast<std::byte*>(blocks[static_cast<size_t>(r)].data), s, r,
                   false);
}

void scatter_pack(const Call& c, Team team) {
    const Share& s = c.attr<Share>();
    const std::vector<Block> blocks = blocks_of(c.scratch, c.in[0], s);
    for (int64_t r = team.rank; r < s.ranks; r += team.size)
        move_share(c.in[0], static_cast<std::byte*>(blocks[static_cast<size_t>(r)].data), s, r, true);
}

void scatter_sum(const Call& c, Team team) {
    const Share& s = c.attr<Share>();
    const Block out{c.out[0].data, c.out[0].count() * size_of(c.out[0].dtype)};
    if (Communicator* group = group_of(c, s.group))
        note(c, group->reduce_scatter(blocks_of(c.scratch, c.in[0], s), out, c.out[0].dtype, team));
    else if (team.rank == 0) move_share(c.in[0], c.out[0].as<std::byte>(), s, s.rank, true);
}

void count_labels(const Call& c, Team team) {
    if (team.rank != 0) return;
    const auto count = [&](const Tensor& labels) {
        const auto ignore = static_cast<int32_t>(c.attr<CrossEntropy>().ignore);
        return labels.count() - std::count(labels.as<int32_t>(), labels.as<int32_t>() + labels.count(), ignore);
    };
    const int64_t all = count(c.in[1]);
    *c.out[0].as<float>() = all ? static_cast<float>(static_cast<double>(count(c.in[0])) / static_cast<double>(all)) : 0.0f;
}

template <int whole_operand, Phase... phases>
Result<Prepared> exchange(const Request& r) {
    const Tensor& whole = whole_operand == 0 ? r.in[0] : r.out[0];
    return Prepared{{phases...}, nullptr, whole.count() * size_of(whole.dtype)};
}

Result<Prepared> reduce(const Request&) { return Prepared{{copy_in, sum_out}, nullptr, 0}; }

}  // namespace

static constexpr KernelImpl all_reduce_list[] = {{"exchange", accepts_all, reduce, true}};
static constexpr KernelImpl take_share_list[] = {{"copy", accepts_all, simple<take>}};
static constexpr KernelImpl all_gather_list[] = {{"exchange", accepts_all, exchange<1, gather_exchange, gather_unpack>, true}};
static constexpr KernelImpl reduce_scatter_list[] = {{"exchange", accepts_all, exchange<0, scatter_pack, scatter_sum>, true}};
static constexpr KernelImpl label_share_list[] = {{"count", accepts_all, simple<count_labels>}};
extern const KernelList all_reduce = all_reduce_list;
extern const KernelList take_share = take_share_list;
extern const KernelList all_gather = all_gather_list;
extern const KernelList reduce_scatter = reduce_scatter_list;
extern const KernelList label_share = label_share_list;

}  // namespace ds::ref
