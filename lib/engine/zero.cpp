// What data ranks share of the parameters, and what they exchange for it outside of plans: sums of gradients and updated weights at the
// boundary. ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054. The pass `zero` does what happens within a plan.
#include <algorithm>
#include <unistd.h>

#include "base/log.h"
#include "engine/engine.h"
#include "ir/op.h"
#include "ops/attrs_zero.h"

namespace ds {
namespace {

constexpr int64_t kBuckets = 8, kSmallestBucket = 1 << 16;  // an exchange holds an eighth of the model at most, unless that is little

// Of consecutive elements from `first` on, what lies with each data rank. base: where element `from` lies.
std::vector<Block> blocks_of(const ParamBucket& bucket, Interval elements, std::byte* base, int64_t from, int64_t element_bytes) {
    std::vector<Block> blocks;
    for (const Interval& part : bucket.parts) {
        const int64_t begin = std::clamp(part.begin, elements.begin, elements.end),
                      end = std::clamp(part.end, elements.begin, elements.end);
        blocks.push_back({base + (begin - from) * element_bytes, (end - begin) * element_bytes});
    }
    return blocks;
}

Status convert_all(Rank& rank, const void* from, DType from_type, void* to, DType to_type, int64_t n) {
    if (rank.device) return rank.device->convert(to, to_type, from, from_type, n);
    return rank.run([&](Team team) {
        const Team::Range part = team.part(n, 64);
        if (part.end > part.begin)
            convert(static_cast<const std::byte*>(from) + part.begin * size_of(from_type), from_type,
                    static_cast<std::byte*>(to) + part.begin * size_of(to_type), to_type, part.end - part.begin);
        return ok();
    });
}

constexpr char kGather[] = "the exchange of updated weights";

}  // namespace

int64_t Engine::bucket_elements(const ParamStore& params) const {
    return std::min(std::max<int64_t>(config_.zero.reduce_bucket, 1), std::max(params.shared_elements() / kBuckets, kSmallestBucket));
}

Communicator* Engine::sharers(const Rank& rank, const ParamBucket& bucket) {
    return rank.links[bucket.experts ? kSameExperts : static_cast<int64_t>(MeshAxis::data)];
}

// Every rank's parameters are there. Ranks of one pipeline stage with the same experts read the same of them.
Status Engine::deal_out() {
    std::map<std::pair<int, int64_t>, std::map<std::string, ReadAs>> known;
    for (const auto& rank : *ranks_) {
        auto& reads = known[{rank->at(MeshAxis::pipeline), rank->at(MeshAxis::data) % config_.mesh.expert}];
        if (reads.empty() && (dealt_out(1) || weights_leave_memory() || config_.sparse_gradients)) { DS_TRY(reads, reads_of(*rank)); }
        deal_out(*rank, reads);
    }
    return ok();
}

// In mixed precision most weights are only read as their low copies.
Result<std::map<std::string, Engine::ReadAs>> Engine::reads_of(Rank& rank) {
    std::map<std::string, ReadAs> reads;
    const PlanKey key = smallest_key();
    DS_TRY(Graph graph, graph_of(rank, key));
    PassOptions options = pass_options(rank, key);
    const ExpertLayout experts{rank.at(MeshAxis::data), config_.mesh.expert, key.shape.tokens};
    options.experts = &experts;
    DS_CHECK(run_passes(graph, options));
    const std::vector<int> uses = use_counts(graph);
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        if (uses[static_cast<size_t>(id)] == 0) continue;
        if (v.kind == Kind::param) reads[v.name].wide = true;
        if (v.kind == Kind::shadow) reads[graph.value(v.of).name].low = v.type.dtype;
    }
    for (const Node& node : graph.nodes)
        if (node.op->name == "embedding" && graph.value(node.in[0]).kind == Kind::param) reads[graph.value(node.in[0]).name].table = true;
    return reads;
}

void Engine::deal_out(Rank& rank, const std::map<std::string, ReadAs>& reads) {
    const int64_t stage = dealt_out(1) || weights_leave_memory() ? config_.zero_stage : 0;
    std::set<std::string, std::less<>> persistent;
    int64_t resident = 0;
    for (const Param& definition : params_->all()) {  // in the order of declaration
        const Param* p = rank.params->find(definition.name);
        if (!p || p->expert || p->count > config_.zero.persistence_threshold ||
            resident + p->count > config_.zero.model_persistence_threshold)
            continue;
        resident += p->count;
        persistent.insert(p->name);
    }
    const int data = ranks_->extent(MeshAxis::data), experts = static_cast<int>(config_.mesh.expert);
    const bool one_holder = experts == data && !weights_leave_memory();  // of each expert
    const auto stays = [&](const Param& p) { return stage < 3 || persistent.contains(p.name) || (p.expert && one_holder); };
    const auto found = [&](const Param& p) { return reads.contains(p.name) ? reads.at(p.name) : ReadAs{}; };
    if (config_.sparse_gradients)
        for (Param& p : rank.params->all()) p.by_rows = p.trainable && p.cut.whole() && found(p).table;
    rank.params->deal_out(
        {.rank = rank.at(MeshAxis::data),
         .ranks = data,
         .holder = rank.at(MeshAxis::data) / experts,
         .holders = data / experts,
         .stage = stage,
         .bucket = bucket_elements(*rank.params),
         .whole_weight =
             [&](const Param& p) { return stays(p) && (found(p).wide || pipeline_ || options_.optimizer || (p.expert && one_holder)); },
         .whole_low = [&](const Param& p) { return stays(p) || !found(p).low; },
         .weights_in_memory = config_.zero.offload_param.in_memory});
    if (stage == 0) return;
    for (const Param& p : rank.params->all())
        if (const auto read = found(p); read.low) rank.low_types[p.name] = *read.low;
    ZeroLayout layout = zero_layout(rank);
    if (!layout.buckets.empty() || !layout.params.empty()) rank.zero = std::move(layout);
}

ZeroLayout Engine::zero_layout(const Rank& rank) const {
    ZeroLayout layout;
    layout.rank = rank.at(MeshAxis::data);
    layout.holder = layout.rank / static_cast<int>(config_.mesh.expert);
    layout.wire = config_.communication;
    layout.max_live = config_.zero.max_live;
    layout.max_reuse = config_.zero.max_reuse;
    const std::vector<Param>& params = rank.params->all();
    for (const ParamBucket& bucket : rank.params->buckets()) {
        ZeroLayout::Bucket gradients{.experts = bucket.experts};
        for (const Interval& part : bucket.parts) gradients.ends.push_back(part.end - bucket.elements.begin);
        for (size_t i = bucket.first; i < bucket.last; ++i) {
            const Param& p = params[i];
            gradients.params.push_back(p.name);
            gradients.starts.push_back(p.offset - bucket.elements.begin);
            if (!p.weight.in_parts && !p.low.in_parts) continue;
            ZeroLayout::Shared& shared = layout.params[p.name];
            shared.weight = p.weight.in_parts, shared.low = p.low.in_parts, shared.expert = p.expert;
            if (p.weight.on_disk) shared.slot = static_cast<int64_t>(2 * i);
            for (const Interval& part : bucket.parts) shared.ends.push_back(std::clamp<int64_t>(part.end - p.offset, 0, p.count));
        }
        if (bucket.trainable && gradients_are_dealt_out()) layout.buckets.push_back(std::move(gradients));
    }
    return layout;
}

DiskPlace Engine::disk_place(const Rank& rank, const char* section, const OffloadConfig& offload) const {
    return {
        .folder = offload.path,
        .name = fmt::format("dsrt-{}-{:x}-rank{}.{}", ::getpid(), reinterpret_cast<uintptr_t>(this), rank.index, section),
        .key = fmt::format("zero_optimization.{}.nvme_path", section),
        .options = {static_cast<int>(config_.zero.disk_threads), config_.zero.disk_block},
    };
}

// Slot 2 i is parameter i, slot 2 i + 1 its low copy.
std::unique_ptr<DiskWeights> Engine::disk_weights(const Rank& rank) const {
    const ParamStore& params = *rank.params;
    if (!params.weight_file()) return nullptr;
    std::vector<DiskWeights::Slot> slots;
    int64_t largest = 0;
    for (const Param& p : params.all()) {
        const int64_t n = p.weight.elements.size();
        slots.push_back(p.weight.on_disk ? DiskWeights::Slot{params.weight_byte(p, p.weight.elements.begin), 4 * n} : DiskWeights::Slot{});
        slots.push_back(p.low.on_disk ? DiskWeights::Slot{params.low_byte(p, p.low.elements.begin), 2 * n} : DiskWeights::Slot{});
        if (p.weight.on_disk) largest = std::max(largest, 4 * n);
    }
    const OffloadConfig& offload = config_.zero.offload_param;
    const int64_t buffer = std::min(largest, 4 * offload.buffer_elements), ahead = 4 * config_.zero.prefetch;
    log(Level::debug, "offload", "weights: {} buffers of {} bytes, {} bytes ahead", offload.buffers, buffer, ahead);
    return std::make_unique<DiskWeights>(*params.weight_file(), std::move(slots), offload.buffers, buffer, ahead);
}

Status Engine::begin_fetching(Rank& rank, const Plan& plan, Plan::Part part) const {
    if (!rank.disk_weights) return ok();
    std::vector<int64_t> order;
    bool backward = false;
    for (const Node& node : plan.graph().nodes) {
        backward |= node.backward;
        if (node.op->name == "fetch" && backward == (part == Plan::Part::backward)) order.push_back(node.attrs.as<Fetch>().slot);
    }
    return rank.disk_weights->begin(std::move(order));
}

// Where plans exchange, a data rank without rows computes along, on another's rows that count for nothing.
void Engine::let_all_ranks_run(Pass& pass) const {
    if (!ranks_run_together() || pass.rows == 0) return;
    const std::vector<int> here = ranks_->data_ranks();
    const auto model = std::find_if(here.begin(), here.end(), [&](int d) {
        return pass.packed[static_cast<size_t>(d)].shape.rows > 0;
    });  // agree_on_rows saw to it that there is one
    for (const int d : here)
        if (Packed& part = pass.packed[static_cast<size_t>(d)]; part.shape.rows == 0) {
            part = pass.packed[static_cast<size_t>(*model)], part.stand_in = true;
            if (const auto real = part.inputs.find("real"); real != part.inputs.end())
                real->second = HostTensor::zeros(DType::f32, real->second.shape);  // counts for no statistics
        }
}

Status Engine::reduce_gradients() {
    if (open_.reduced || !gradients_have_parts()) return ok();
    if (config_.communication != DType::f32 && last_ && !last_->train) last_.reset();  // its outputs lie where gradients are converted
    DS_CHECK(ranks_->each([&](Rank& rank) { return reduce_gradients(rank); }));
    open_.reduced = true;
    return ok();
}

// Where updates are dealt out, each data rank needs the sums of its own elements only.
Status Engine::reduce_gradients(Rank& rank) {
    ParamStore& params = *rank.params;
    DS_CHECK(params.need_grads());
    if (rank.backwards == 0) DS_CHECK(params.clear_grads());
    // Ranks with pieces of the same rows each have a summand.
    if (Communicator* pieces = rank.links[static_cast<int64_t>(MeshAxis::sequence)])
        DS_CHECK(rank.exchange(kSumOfGradients, "", [&](Team team) {
            return pieces->all_reduce({params.grads(), params.grad_elements() * 4}, DType::f32, team);
        }));
    DS_CHECK(sum_tied(rank));
    if (ranks_->extent(MeshAxis::data) == 1 || gradients_are_dealt_out()) return ok();  // the plan summed over data ranks
    const DType wire = config_.communication;
    for (const ParamBucket& bucket : params.buckets()) {
        Communicator* const sharing = sharers(rank, bucket);
        if (!bucket.trainable || !sharing) continue;
        Communicator& data = *sharing;
        if (const Param& p = params.all()[bucket.first]; p.by_rows && !rank.device) {  // which rows are not zero is looked up by the host
            DS_TRY(const bool done, reduce_rows(rank, p));
            if (done) continue;
        }
        const int64_t n = bucket.elements.size();
        auto* sums = reinterpret_cast<std::byte*>(params.grads() + bucket.elements.begin);  // whole gradients lie as elements are counted
        std::byte* sent = sums;
        if (wire != DType::f32) {
            DS_CHECK(rank.other_arena.reserve(static_cast<size_t>(n * size_of(wire))));
            sent = rank.other_arena.data();
            DS_CHECK(convert_all(rank, sums, DType::f32, sent, wire, n));
        }
        DS_CHECK(rank.exchange(kSumOfGradients, params.all()[bucket.first].name,
                               [&](Team team) { return sum_bucket(data, bucket, sent, wire, team); }));
        if (wire == DType::f32) continue;
        const Interval summed = updates_are_dealt_out() ? bucket.parts[static_cast<size_t>(data.rank())] : bucket.elements;
        const int64_t at = summed.begin - bucket.elements.begin;
        DS_CHECK(convert_all(rank, sent + at * size_of(wire), wire, sums + at * 4, DType::f32, summed.size()));
    }
    return ok();
}

Status Engine::sum_bucket(Communicator& data, const ParamBucket& bucket, std::byte* sums, DType type, Team team) const {
    if (!updates_are_dealt_out()) return data.all_reduce({sums, bucket.elements.size() * size_of(type)}, type, team);
    const std::vector<Block> blocks = blocks_of(bucket, bucket.elements, sums, bucket.elements.begin, size_of(type));
    return data.reduce_scatter(blocks, blocks[static_cast<size_t>(data.rank())], type, team);
}

// Neighbouring parameters that every data rank holds whole but updates in parts lie side by side: they are gathered together, so many
// elements at a time.
std::vector<Engine::Gathering> Engine::gatherings(const Rank& rank) const {
    std::vector<Gathering> list;
    const ParamStore& params = *rank.params;
    const int64_t most = std::max<int64_t>(config_.zero.allgather_bucket, 1);
    for (const bool low : {false, true}) {
        const auto wanted = [&](const Param& p) {
            return low ? !p.low.in_parts && (p.low_type || rank.low_types.contains(p.name)) : !p.weight.in_parts;
        };
        for (const ParamBucket& bucket : params.buckets()) {
            if (!bucket.trainable) continue;
            for (size_t i = bucket.first, end; i < bucket.last; i = end) {
                end = i + 1;
                const Param& first = params.all()[i];
                if (!wanted(first)) continue;
                while (end < bucket.last && wanted(params.all()[end])) ++end;
                const int64_t last = end == bucket.last ? bucket.elements.end : params.all()[end].offset;
                for (int64_t at = first.offset; at < last; at += most)
                    list.push_back(
                        {&bucket, {at, std::min(last, at + most)}, low, (low ? first.low.offset : first.weight.offset) - first.offset});
            }
        }
    }
    return list;
}

// Each data rank has updated its own elements; where the others hold them too, they get them.
Status Engine::gather_weights(Rank& rank) {
    ParamStore& params = *rank.params;
    for (const Gathering& g : gatherings(rank)) {
        Communicator* const sharing = sharers(rank, *g.bucket);
        if (!sharing) continue;
        Communicator& data = *sharing;
        std::byte* base = g.low ? params.lows() : reinterpret_cast<std::byte*>(params.weights());
        const int64_t size = g.low ? 2 : 4;
        const std::vector<Block> blocks =
            blocks_of(*g.bucket, g.elements, base + (g.elements.begin + g.shift) * size, g.elements.begin, size);
        DS_CHECK(rank.exchange(kGather, params.all()[g.bucket->first].name,
                               [&](Team team) { return data.all_gather(blocks[static_cast<size_t>(data.rank())], blocks, team); }));
    }
    return ok();
}

// What all ranks sent since the last update.
void Engine::publish_traffic() {
    for (int kind = 0; kind < kTraffics; ++kind) {
        int64_t sent = 0;
        for (const auto& rank : *ranks_) sent += rank->sent.of(static_cast<Traffic>(kind));
        metrics_.put(std::string("bytes_") + name_of(static_cast<Traffic>(kind)),
                     static_cast<double>(sent - std::exchange(sent_before_[static_cast<size_t>(kind)], sent)));
    }
}

}  // namespace ds
