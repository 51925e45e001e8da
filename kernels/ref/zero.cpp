// Buckets of gradients and gathered weights. Without links (one rank) they are copies.
#include <algorithm>

#include "comm/communicator.h"
#include "kernels/ref/ref.h"
#include "ops/attrs_zero.h"

namespace ds::ref {
namespace {

Communicator* group_of(const Call& c) { return c.runtime->links ? (*c.runtime->links)[c.attr<Parts>().group] : nullptr; }

void note(const Call& c, const Status& status) {
    if (c.runtime->links) c.runtime->links->note(status);
}

void copy_part(const void* from, void* to, int64_t bytes, Team team) {
    const Team::Range part = team.part(bytes, 64);
    if (from != to && part.end > part.begin)
        std::memcpy(static_cast<std::byte*>(to) + part.begin, static_cast<const std::byte*>(from) + part.begin,
                    static_cast<size_t>(part.end - part.begin));
}

// Where memory is planned well the inputs lie in the bucket already.
void fill_bucket(const Call& c, Team team) {
    const Bucket& b = c.attr<Bucket>();
    auto* y = c.out[0].as<float>();
    for (size_t i = 0; i < b.starts.size(); ++i) {
        const int64_t count = c.in[i].count(), end = i + 1 < b.starts.size() ? b.starts[i + 1] : b.size;
        copy_part(c.in[i].data, y + b.starts[i], count * 4, team);
        if (team.rank == 0) std::fill(y + b.starts[i] + count, y + end, 0.0f);
    }
}

std::vector<Block> blocks_of(std::byte* base, int64_t element_bytes, const Parts& p) {
    std::vector<Block> blocks;
    for (int64_t r = 0; r < static_cast<int64_t>(p.ends.size()); ++r)
        blocks.push_back({base + p.begin(r) * element_bytes, p.size(r) * element_bytes});
    return blocks;
}

// In scratch: this rank's sum, and before it, where the wire's type is another, all summands in that.
struct Wire {
    std::byte *summands, *sum;
    explicit Wire(const Call& c) {
        const Parts& p = c.attr<Parts>();
        summands = p.wire == DType::f32 ? c.in[0].as<std::byte>() : c.scratch;
        sum = p.wire == DType::f32 ? (c.in[1].present ? c.scratch : c.out[0].as<std::byte>())
                                   : c.scratch + round_up(p.ends.back() * size_of(p.wire), 64);
    }
};

void to_wire(const Call& c, Team team) {
    const Parts& p = c.attr<Parts>();
    if (p.wire == DType::f32) return;
    const Team::Range part = team.part(p.ends.back(), 64);
    if (part.end > part.begin)
        convert(c.in[0].as<float>() + part.begin, DType::f32, c.scratch + part.begin * size_of(p.wire), p.wire, part.end - part.begin);
}

void exchange_sums(const Call& c, Team team) {
    const Parts& p = c.attr<Parts>();
    const Wire wire(c);
    const int64_t size = size_of(p.wire);
    const Block mine{wire.sum, p.size(p.rank) * size};
    if (Communicator* group = group_of(c)) note(c, group->reduce_scatter(blocks_of(wire.summands, size, p), mine, p.wire, team));
    else copy_part(wire.summands + p.begin(p.rank) * size, mine.data, mine.bytes, team);
}

void add_sums(const Call& c, Team team) {
    const Parts& p = c.attr<Parts>();
    const Wire wire(c);
    auto* y = c.out[0].as<float>();
    if (wire.sum == c.out[0].data) return;
    const Team::Range part = team.part(p.size(p.rank), 64);
    const float* into = c.in[1].present ? c.in[1].as<float>() : nullptr;
    float wide[512];
    for (int64_t at = part.begin; at < part.end; at += 512) {
        const int64_t n = std::min<int64_t>(512, part.end - at);
        convert(wire.sum + at * size_of(p.wire), p.wire, wide, DType::f32, n);
        for (int64_t i = 0; i < n; ++i) y[at + i] = into ? into[at + i] + wide[i] : wide[i];
    }
}

void gather(const Call& c, Team team) {
    const Parts& p = c.attr<Parts>();
    const int64_t size = size_of(c.out[0].dtype);
    const std::vector<Block> blocks = blocks_of(c.out[0].as<std::byte>(), size, p);
    const Block mine{c.in[0].data, p.size(p.rank) * size};
    if (Communicator* group = group_of(c)) note(c, group->all_gather(mine, blocks, team));
    else copy_part(mine.data, blocks[static_cast<size_t>(p.rank)].data, mine.bytes, team);
}

// Zeros where nothing is kept anywhere: a graph that runs by itself.
void fetch_weights(const Call& c, Team team) {
    if (team.rank != 0) return;
    const int64_t bytes = c.out[0].count() * size_of(c.out[0].dtype);
    if (c.runtime->links && c.runtime->links->source) note(c, c.runtime->links->source->fetch(c.attr<Fetch>().slot, c.out[0].data, bytes));
    else std::memset(c.out[0].data, 0, static_cast<size_t>(bytes));
}

Result<Prepared> reduce(const Request& r) {
    const Parts& p = r.attr<Parts>();
    const int64_t summands = p.wire == DType::f32 ? 0 : round_up(p.ends.back() * size_of(p.wire), 64);
    const bool apart = p.wire != DType::f32 || r.in[1].present;
    return Prepared{{to_wire, exchange_sums, add_sums}, nullptr, summands + (apart ? p.size(p.rank) * size_of(p.wire) : 0)};
}

}  // namespace

static constexpr KernelImpl bucket_list[] = {{"in_place", accepts_all, simple<fill_bucket>}};
static constexpr KernelImpl reduce_bucket_list[] = {{"exchange", accepts_all, reduce, true}};
static constexpr KernelImpl gather_parts_list[] = {{"exchange", accepts_all, simple<gather>, true}};
static constexpr KernelImpl fetch_list[] = {{"disk", accepts_all, simple<fetch_weights>}};
extern const KernelList fetch = fetch_list;
extern const KernelList bucket = bucket_list;
extern const KernelList reduce_bucket = reduce_bucket_list;
extern const KernelList gather_parts = gather_parts_list;

}  // namespace ds::ref
