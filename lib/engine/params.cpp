#include "engine/params.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/round.h"
#include "kernels/coded.h"
#include "kernels/cpu/optim.h"
#include "kernels/kernel.h"
#include "kernels/sparse.h"
#include "passes/pass.h"

namespace ds {
namespace {

constexpr int64_t kAlignElements = 32;  // 64 bytes even in the low-precision copy
int64_t align_up(int64_t n) { return (n + kAlignElements - 1) / kAlignElements * kAlignElements; }

// Muon is for hidden matrices; embeddings, heads and vectors get its inner Adam (Jordan 2024, and DeepSpeed's examples).
bool hidden_matrix(const std::string& name, const Shape& shape) {
    if (shape.size() < 2) return false;
    for (const char* word : {"embed", "wte", "wpe", "lm_head", "classifier", "qa_outputs", "predictions"})
        if (name.find(word) != std::string::npos) return false;
    return true;
}

const ParamTraits kMatrix{{1, 1}, true};

// FNV-1a of the name: each parameter draws its own numbers, wherever it lies.
uint64_t salt_of(const std::string& name) {
    uint64_t salt = 0xcbf29ce484222325u;
    for (const char c : name) salt = (salt ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return salt;
}

}  // namespace

Result<std::vector<ParamGroup>> ParamStore::make_groups(const Config& config, bool custom) {
    std::vector<ParamGroup> groups;
    const auto add = [&](const std::string& name, const Json& settings) -> Status {
        Json params = config.optimizer.params;
        if (settings.contains("lr"))  // is nearer than what is said of the halves of all groups
            for (const char* half : {"muon_lr", "adam_lr"}) params.erase(half);
        params.update(settings);
        params.erase("use_muon");
        if (custom) {
            for (const char* key : {"lr", "weight_decay"})
                if (const Json x = params.value(key, Json(0)); !x.is_number())
                    return fail(Code::E_CONFIG, "config: optimizer.params.{}: must be a number, is {}", key, x.dump());
            groups.push_back({name, nullptr, {.lr = params.value("lr", 1e-3), .weight_decay = params.value("weight_decay", 0.0)}});
            return ok();
        }
        for (const ParamTraits& traits : {ParamTraits{}, kMatrix}) {
            if (traits.use_muon && !groups.back().optimizer->stands_apart(traits)) break;
            DS_TRY(auto optimizer, make_optimizer(config.optimizer.type, params));
            const Defaults defaults = optimizer->defaults(traits);
            groups.push_back({name, std::move(optimizer), defaults});
        }
        return ok();
    };
    for (const ParamGroupConfig& group : config.param_groups) DS_CHECK(add(group.name, group.settings));
    DS_CHECK(add("default", Json::object()));
    return groups;
}

Result<std::unique_ptr<ParamStore>> ParamStore::create(const Graph& graph, const Config& config, const OptimizerCallbacks* custom) {
    auto store = std::make_unique<ParamStore>();
    const bool trains = custom || !config.optimizer.type.empty();
    if (trains) {
        DS_TRY(store->groups_, make_groups(config, custom != nullptr));
    } else {
        store->groups_.resize(config.param_groups.size() + 1);
    }
    std::map<std::pair<size_t, std::string>, int64_t> matches;  // of each pattern
    for (size_t g = 0; g < config.param_groups.size(); ++g)
        for (const std::string& pattern : config.param_groups[g].match) matches[{g, pattern}] = 0;
    for (const ValueId id : graph.inputs) {
        const Value& v = graph.value(id);
        if (v.kind != Kind::param) continue;
        Param p{.name = v.name, .shape = v.type.shape, .trainable = v.trainable, .init = v.init};
        size_t group_number = config.param_groups.size();
        bool taken = false;
        for (size_t g = 0; g < config.param_groups.size(); ++g)
            for (const std::string& pattern : config.param_groups[g].match)
                if (glob_match(pattern, p.name)) {
                    ++matches[{g, pattern}];
                    if (!std::exchange(taken, true)) group_number = g;
                }
        p.traits = {p.shape, hidden_matrix(p.name, p.shape)};
        if (group_number < config.param_groups.size()) {
            const ParamGroupConfig& group = config.param_groups[group_number];
            if (group.frozen) p.trainable = false;
            p.traits.use_muon = group.settings.value("use_muon", p.traits.use_muon);
        }
        const size_t halves = store->groups_.size() / (config.param_groups.size() + 1);
        p.group = group_number * halves + (halves > 1 && store->groups_[group_number * halves].optimizer->stands_apart(p.traits));
        if (p.trainable && custom) p.state_defs = {{"state", Moment::none, {elements(p.shape) * custom->floats_per_element}}};
        else if (p.trainable && trains) p.state_defs = store->groups_[p.group].optimizer->states(p.traits);
        p.elementwise = !custom && (!trains || store->groups_[p.group].optimizer->elementwise(p.traits));
        store->append(std::move(p), v.type.shape);
    }
    for (const auto& [pattern, count] : matches)
        if (count == 0)
            return fail(Code::E_CONFIG, "config: param_groups[{}].match: no parameter of the model matches {}; its names are like {}",
                        pattern.first, pattern.second, store->params_.empty() ? "none" : store->params_.back().name);
    return store;
}

void ParamStore::append(Param p, const Shape& held) {
    p.count = elements(held);
    p.own = {0, p.count};
    p.offset = total_;
    total_ += align_up(p.count);
    if (p.trainable) trained_ = total_;
    index_[p.name] = params_.size();
    params_.push_back(std::move(p));
}

std::unique_ptr<ParamStore> ParamStore::local(const Graph& graph, const std::set<std::string>& experts) const {
    auto store = std::make_unique<ParamStore>();
    for (const auto& [trainable, expert] : {std::pair{true, false}, {true, true}, {false, false}, {false, true}})
        for (const ValueId id : graph.inputs) {
            const Value& v = graph.value(id);
            if (v.kind != Kind::param) continue;
            Param p = params_[index_.find(v.name)->second];
            p.expert = experts.contains(v.name);
            if (p.trainable != trainable || p.expert != expert) continue;
            p.cut = v.cut;
            store->append(std::move(p), v.type.shape);
        }
    store->deal_out({});
    return store;
}

int64_t ParamStore::shared_elements() const {
    int64_t n = total_;
    for (const Param& p : params_) n -= p.expert ? align_up(p.count) : 0;
    return n;
}

// Near-even parts; where an update needs a whole tensor, it stays in one of them.
std::vector<Interval> ParamStore::parts_of(Interval all, int ranks) const {
    std::vector<Interval> parts;
    for (int r = 1; r <= ranks; ++r) {
        int64_t end = r == ranks ? all.end : all.begin + all.size() * r / ranks / kAlignElements * kAlignElements;
        for (const Param& p : params_)
            if (p.trainable && !p.elementwise && p.offset < end && end < p.offset + p.count)
                end = end - p.offset < p.count / 2 ? p.offset : p.offset + align_up(p.count);
        const int64_t begin = parts.empty() ? all.begin : parts.back().end;
        parts.push_back({begin, std::max(end, begin)});
    }
    return parts;
}

// Each bucket is dealt out near-evenly, so that all ranks send alike; where updates need whole tensors, only all buckets together are.
void ParamStore::make_buckets(const Dealing& dealing) {
    bool elementwise = true;
    for (const Param& p : params_) elementwise &= p.elementwise || !p.trainable;
    int64_t shared = 0;  // of the trained ones, which come first
    for (const Param& p : params_)
        if (p.trainable && !p.expert) shared = p.offset + align_up(p.count);
    const auto all_parts = [&](Interval all, int ranks) { return elementwise ? std::vector<Interval>() : parts_of(all, ranks); };
    const std::vector<Interval> whole = all_parts({0, shared}, dealing.ranks),
                                whole_experts = all_parts({shared, trained_}, dealing.holders);
    buckets_.clear();
    for (size_t i = 0; i < params_.size(); ++i) {
        const Param& p = params_[i];
        const Interval here{p.offset, p.offset + align_up(p.count)};
        const bool apart = p.by_rows || (i > 0 && (params_[i - 1].by_rows || params_[i - 1].expert != p.expert));
        if (!buckets_.empty() && !apart && buckets_.back().trainable == p.trainable &&
            here.end - buckets_.back().elements.begin <= dealing.bucket) {
            buckets_.back().last = i + 1;
            buckets_.back().elements.end = here.end;
        } else buckets_.push_back({i, i + 1, here, {}, p.trainable, p.expert});
    }
    for (ParamBucket& bucket : buckets_) {
        if (elementwise || !bucket.trainable) bucket.parts = parts_of(bucket.elements, bucket.experts ? dealing.holders : dealing.ranks);
        else
            for (const Interval& part : bucket.experts ? whole_experts : whole)
                bucket.parts.push_back({std::clamp(part.begin, bucket.elements.begin, bucket.elements.end),
                                        std::clamp(part.end, bucket.elements.begin, bucket.elements.end)});
    }
}

void ParamStore::lie_on(Device* device) {
    device_ = device;
    for (Arena* arena : {&weights_, &grads_, &states_, &lows_, &codes_}) arena->lie_on(device);
}

Status ParamStore::clear_grads() {
    if (device_) return device_->zero(grads(), static_cast<size_t>(grad_elements_) * sizeof(float));
    std::fill_n(grads(), grad_elements_, 0.0f);
    return ok();
}

Status ParamStore::clear_grad(const Param& p) {
    if (device_) return device_->zero(grad(p), static_cast<size_t>(p.count) * sizeof(float));
    std::fill_n(grad(p), p.count, 0.0f);
    return ok();
}

// Fresh memory is zero, on a device too: gaps between parameters are summed and exchanged with them.
Status ParamStore::reserve(Arena& arena, int64_t bytes) {
    const bool fresh = !arena.data();
    DS_CHECK(arena.reserve(static_cast<size_t>(bytes)));
    return device_ && fresh ? device_->zero(arena.data(), arena.size()) : ok();
}

void ParamStore::deal_out(const Dealing& dealing) {
    make_buckets(dealing);
    weight_elements_ = grad_elements_ = low_elements_ = disk_weights_ = disk_lows_ = code_bytes_ = 0;
    int64_t in_memory = 0;
    const auto hold = [](Held& held, const Param& p, bool in_parts, bool on_disk, int64_t& memory, int64_t& disk) {
        int64_t& total = on_disk ? disk : memory;
        held = {in_parts ? p.share : Interval{0, p.count}, total, in_parts, on_disk};
        total += align_up(held.elements.size());
    };
    for (const ParamBucket& bucket : buckets_)
        for (size_t i = bucket.first; i < bucket.last; ++i) {
            Param& p = params_[i];
            p.holder = bucket.experts ? dealing.holder : dealing.rank;
            const Interval all{0, p.count}, part = bucket.parts[static_cast<size_t>(p.holder)];
            p.share.begin = std::clamp<int64_t>(part.begin - p.offset, 0, p.count);
            p.share.end = std::clamp<int64_t>(part.end - p.offset, p.share.begin, p.count);
            p.own = dealing.stage >= 1 ? p.share : all;
            if (p.code) {  // every data rank has it whole
                p.weight = p.low = {};
                p.code_offset = code_bytes_;
                code_bytes_ += round_up(p.code_bytes(), 64);
                continue;
            }
            const bool weight_in_parts = dealing.stage >= 1 && !dealing.whole_weight(p),
                       low_in_parts = dealing.stage >= 1 && !dealing.whole_low(p);
            const bool may_leave = weight_place_ && weight_in_parts,
                       leaves = may_leave && in_memory + p.share.size() > dealing.weights_in_memory;
            if (may_leave && !leaves) in_memory += p.share.size();
            hold(p.weight, p, weight_in_parts, leaves, weight_elements_, disk_weights_);
            hold(p.low, p, low_in_parts, leaves && low_in_parts, low_elements_, disk_lows_);
            int64_t none = 0;
            if (p.trainable) hold(p.grad, p, dealing.stage >= 2, false, grad_elements_, none);
        }
}

Status ParamStore::need_weights() {
    if (weight_place_ && disk_weights_ > 0 && !weight_file_) {
        DS_TRY(weight_file_,
               DiskFile::create(weight_place_->folder, weight_place_->name, bytes_on_disk(), weight_place_->options, weight_place_->key));
    }
    if (code_bytes_ > 0) DS_CHECK(codes_.reserve(static_cast<size_t>(code_bytes_)));
    return reserve(weights_, weight_elements_ * 4);
}

// On a device codes are made here and go there as they are: they are few.
Status ParamStore::encode(const Param& p, const float* from, Workers& workers) {
    const auto bytes = static_cast<size_t>(p.code_bytes());
    std::vector<std::byte> copy(device_ ? bytes : 0);
    DS_CHECK(encode_to(p, from, workers, reinterpret_cast<uint8_t*>(device_ ? copy.data() : codes(p))));
    return device_ ? device_->upload(codes(p), copy.data(), bytes) : ok();
}

Status ParamStore::put_codes(const Param& p, const uint8_t* from) {
    const auto bytes = static_cast<size_t>(p.code_bytes());
    if (device_) return device_->upload(codes(p), from, bytes);
    std::memcpy(codes(p), from, bytes);
    return ok();
}

Status ParamStore::encode_to(const Param& p, const float* from, Workers& workers, uint8_t* to) {
    if (p.code->is_bf16()) {
        workers.run([&](Team team) {
            const auto [begin, end] = team.part(p.count);
            convert(from + begin, DType::f32, to + 2 * begin, DType::bf16, end - begin);
        });
        return ok();
    }
    if (p.code->by_output) {
        const Int8Parts channels(p.outs(), p.ins());
        workers.run([&](Team team) {
            const auto [first, last] = team.part(channels.panels);
            code_outputs(from, channels, p.code->out_first, first, last, to);
        });
        return ok();
    }
    if (p.code->sparse) {
        if (const int64_t found = count_nonzeros(from, p.count); found != p.code->nonzeros)
            return fail(Code::E_STATE,
                        "{}: {} values are not zero, but this engine keeps {} of it (sparse_weights); other weights come from another "
                        "folder",
                        p.name, found, p.code->nonzeros);
        code_sparse(from, p.sparse_parts(), p.code->out_first, to);
        return ok();
    }
    if (p.code->group) {
        const GroupParts groups = p.group_parts();
        workers.run([&](Team team) {
            const auto [first, last] = team.part(groups.outs);
            code_groups(from, groups, *p.code, first, last, to);
        });
        return ok();
    }
    constexpr int64_t kPart = 1024;  // blocks
    const CodedParts parts(p.count, *p.code);
    std::vector<float> scales(static_cast<size_t>(parts.blocks));
    workers.run([&](Team team) {
        const auto [first, last] = team.part(parts.blocks, kPart);
        code_blocks(from, p.count, *p.code, first, last, to, scales.data());
    });
    code_scales(scales, parts, *p.code, to);
    return ok();
}

Result<const std::byte*> ParamStore::read_codes(const Param& p, std::vector<std::byte>& copy) const {
    if (!device_) return codes(p);
    copy.resize(static_cast<size_t>(p.code_bytes()));
    DS_CHECK(device_->download(copy.data(), codes(p), copy.size()));
    return copy.data();
}

Status ParamStore::decode(const Param& p, float* to, Workers& workers) const {
    std::vector<std::byte> copy;
    DS_TRY(const std::byte* from, read_codes(p, copy));
    const auto each = [&](const auto& value_at) {
        workers.run([&](Team team) {
            const auto [first, last] = team.part(p.outs());
            for (int64_t o = first; o < last; ++o)
                for (int64_t i = 0; i < p.ins(); ++i) to[p.code->out_first ? o * p.ins() + i : i * p.outs() + o] = value_at(o, i);
        });
        return ok();
    };
    if (p.code->is_bf16()) {
        workers.run([&](Team team) {
            const auto [begin, end] = team.part(p.count);
            convert(from + 2 * begin, DType::bf16, to + begin, DType::f32, end - begin);
        });
        return ok();
    }
    if (p.code->by_output) {
        const Int8Parts channels(p.outs(), p.ins());
        return each([&](int64_t o, int64_t i) { return coded_output(from, channels, o, i); });
    }
    if (p.code->sparse) {
        const SparseParts parts = p.sparse_parts();
        const SparseWeight weight(from, parts);
        return each([&](int64_t o, int64_t i) { return weight.at(o, i); });
    }
    if (p.code->group) {
        const GroupParts groups = p.group_parts();
        const GroupWeight weight(from, groups, *p.code);
        return each([&](int64_t o, int64_t i) { return weight.at(o, i); });
    }
    const CodedWeight weight(from, p.count, *p.code);
    workers.run([&](Team team) {
        const auto [begin, end] = team.part(p.count, kCodeBlock);
        for (int64_t i = begin; i < end; ++i) to[i] = weight.at(i);
    });
    return ok();
}

Param* ParamStore::find(std::string_view name) {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &params_[found->second];
}

Status ParamStore::need_grads() { return reserve(grads_, grad_elements_ * 4); }

Status ParamStore::need_state() {
    if (has_state()) return ok();
    int64_t floats = 0;
    for (const Param& p : params_)
        for (size_t i = 0; i < p.state_defs.size(); ++i) floats += align_up(state_count(p, i));
    if (state_place_) return make_state_file(floats * 4);
    DS_CHECK(reserve(states_, floats * 4 + 64));
    auto* at = reinterpret_cast<float*>(states_.data());
    for (Param& p : params_)
        for (size_t i = 0; i < p.state_defs.size(); ++i) {
            p.state.push_back(at);
            const auto n = static_cast<size_t>(state_count(p, i));
            if (p.state_defs[i].initial != 0 && device_) {
                const std::vector<float> values(n, p.state_defs[i].initial);
                DS_CHECK(device_->upload(at, values.data(), n * 4));
            } else if (p.state_defs[i].initial != 0) {
                std::fill_n(at, n, p.state_defs[i].initial);
            }
            at += align_up(state_count(p, i));
        }
    return ok();
}

Status ParamStore::make_state_file(int64_t bytes) {
    DS_TRY(auto file, DiskFile::create(state_place_->folder, state_place_->name, bytes, state_place_->options, state_place_->key));
    int64_t at = 0;
    for (Param& p : params_) {
        p.state_offsets.clear();
        for (size_t i = 0; i < p.state_defs.size(); ++i) {
            const int64_t n = state_count(p, i);
            p.state_offsets.push_back(at);
            if (p.state_defs[i].initial != 0) {
                const std::vector<float> initial(static_cast<size_t>(n), p.state_defs[i].initial);
                DS_CHECK(file->write_now(at, initial.data(), n * 4));
            }
            at += align_up(n) * 4;
        }
    }
    state_file_ = std::move(file);
    return ok();
}

Status ParamStore::need_low(Param& p, DType type) {
    if (p.low_type == type || p.code) return ok();
    if (p.low_type)
        return fail(Code::E_UNSUPPORTED, "precision: parameter {} is used in {} and in {}; one low type a parameter is built", p.name,
                    name_of(*p.low_type), name_of(type));
    DS_CHECK(reserve(lows_, low_elements_ * 2));
    p.low_type = type;
    return refresh_low(p);
}

int64_t ParamStore::bytes_of_lows() const {
    int64_t bytes = 0;
    for (const Param& p : params_)
        if (p.low_type && !p.low.on_disk) bytes += p.low.elements.size() * 2;
    return bytes;
}

std::optional<Rounding> ParamStore::rounding(const Param& p, int64_t begin) const {
    if (!rounding_ || !p.trainable || p.low_type != DType::bf16) return std::nullopt;
    return Rounding{rounding_->seed, rounding_->step, salt_of(p.name), begin};
}

Status ParamStore::refresh_low(const Param& p) {
    const int64_t begin = std::max(p.weight.elements.begin, p.low.elements.begin),
                  end = std::min(p.weight.elements.end, p.low.elements.end);
    if (!p.low_type || end <= begin || p.weight.on_disk) return ok();
    if (const auto by_chance = rounding(p, begin)) {
        if (device_)
            return device_->sweep({.rule = SweepRule::keep,
                                   .weight = weight(p, begin),
                                   .count = end - begin,
                                   .low = low(p, begin),
                                   .low_dtype = static_cast<int32_t>(*p.low_type),
                                   .rounding = &*by_chance});
        return cpu::write_low(weight(p, begin), 0, end - begin, low(p, begin), *p.low_type, &*by_chance), ok();
    }
    if (device_) return device_->convert(low(p, begin), *p.low_type, weight(p, begin), DType::f32, end - begin);
    convert(weight(p, begin), DType::f32, low(p, begin), *p.low_type, end - begin);
    return ok();
}

void initialise(const Param& p, uint64_t seed, int64_t begin, int64_t end, float* w) {
    const uint64_t salt = salt_of(p.name);
    const Runtime runtime{seed, 0};
    const auto scale = static_cast<float>(p.init.scale);
    const int64_t columns = p.shape.empty() ? 1 : p.shape.back();
    if (p.init.type == Init::Type::sinusoid) {
        for (int64_t at = begin; at < end; ++at) {
            const auto row = static_cast<double>(at / columns), pair = static_cast<double>(at % columns / 2 * 2);
            const double angle = row / std::pow(p.init.scale, pair / static_cast<double>(columns));
            w[at - begin] = static_cast<float>(at % columns % 2 ? std::cos(angle) : std::sin(angle));
        }
        return;
    }
    if (p.init.type <= Init::Type::ones) return std::fill(w, w + (end - begin), p.init.type == Init::Type::ones ? 1.0f : 0.0f);
    for (int64_t at = begin; at < end; at += 4) {
        float draws[4];
        uniform_block(runtime, salt, static_cast<uint64_t>(at / 4), draws);
        if (p.init.type == Init::Type::uniform) {
            for (float& x : draws) x = (2 * x - 1) * scale;
        } else {  // Box, Muller 1958: two normal numbers from two uniform ones
            for (int i = 0; i < 4; i += 2) {
                const float radius = scale * std::sqrt(-2 * std::log(1 - draws[i])), angle = 2 * std::numbers::pi_v<float> * draws[i + 1];
                draws[i] = radius * std::cos(angle);
                draws[i + 1] = radius * std::sin(angle);
            }
        }
        std::copy_n(draws, std::min<int64_t>(4, end - at), w + (at - begin));
    }
    if (p.init.zero_row < 0) return;
    const int64_t from = std::clamp(p.init.zero_row * columns, begin, end), to = std::clamp((p.init.zero_row + 1) * columns, begin, end);
    std::fill(w + (from - begin), w + (to - begin), 0.0f);
}

}  // namespace ds
