// Collectives of a plan, as kernels/ref/collectives.cpp: what leaves this rank is packed rank by rank, exchanged, and unpacked. Without
// links (one rank) they are copies. What exchanges is not recorded (exec/plan_device.cpp).
#include "kernels/cuda/share.cuh"

namespace ds::cuda {
namespace {

void sum_over_ranks(const Call& c, Queue& q) {
    copy_bytes(q, c.out[0].data, c.in[0].data, bytes_of(c.out[0]));
    if (q.failed()) return;
    if (Communicator* group = group_of(c, c.attr<Exchange>().group))
        q.note_link(group->all_reduce({c.out[0].data, bytes_of(c.out[0])}, c.out[0].dtype, kAlone));
}

void gather(const Call& c, Queue& q) {
    const Share& s = c.attr<Share>();
    Communicator* group = group_of(c, s.group);
    const std::vector<Block> blocks = blocks_of(c.scratch, c.out[0], cut_of(s), s.full, s.ranks);
    if (group && !q.failed()) q.note_link(group->all_gather({c.in[0].data, bytes_of(c.in[0])}, blocks, kAlone));
    for (int64_t r = 0; r < s.ranks; ++r) {
        if (!group && r != s.rank) continue;
        move_share(q, c.out[0], r == s.rank ? c.in[0].data : blocks[static_cast<size_t>(r)].data,
                   share_map(c.out[0], cut_of(s), s.full, r, s.ranks), false);
    }
}

void scatter(const Call& c, Queue& q) {
    const Share& s = c.attr<Share>();
    const Block out{c.out[0].data, bytes_of(c.out[0])};
    Communicator* group = group_of(c, s.group);
    if (!group) return move_share(q, c.in[0], out.data, share_map(c.in[0], cut_of(s), s.full, s.rank, s.ranks), true);
    const std::vector<Block> blocks = blocks_of(c.scratch, c.in[0], cut_of(s), s.full, s.ranks);
    for (int64_t r = 0; r < s.ranks; ++r)
        move_share(q, c.in[0], blocks[static_cast<size_t>(r)].data, share_map(c.in[0], cut_of(s), s.full, r, s.ranks), true);
    if (!q.failed()) q.note_link(group->reduce_scatter(blocks, out, c.out[0].dtype, kAlone));
}

template <void (*run)(const Call&, Queue&), int whole_operand>
Result<Prepared> exchange(const Request& r) {
    return Prepared{{queued<run>}, nullptr, bytes_of(whole_operand == 0 ? r.in[0] : r.out[0])};
}

constexpr KernelImpl kAllReduce[] = {{"exchange", accepts_all, simple<queued<sum_over_ranks>>, true}},
                     kAllGather[] = {{"exchange", accepts_all, exchange<gather, 1>, true}},
                     kReduceScatter[] = {{"exchange", accepts_all, exchange<scatter, 0>, true}};

}  // namespace

extern const KernelList all_reduce{kAllReduce}, all_gather{kAllGather}, reduce_scatter{kReduceScatter};

}  // namespace ds::cuda
