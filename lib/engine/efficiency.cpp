// What changes as training goes on: rows of an update, tokens of a row, tokens and blocks that a micro-batch leaves out.
//
// All of it is decided from counters and seeds when a micro-batch is packed, alike for every layout; difficulties, thetas and draws are functions of the
// engine's counters, so a checkpoint that has those has them. What the batch's growth has seen is saved beside them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "data/random.h"
#include "engine/engine.h"
#include "engine/pack.h"

namespace ds {
namespace {

constexpr uint64_t kLayerDraws = 0x4c41, kTokenDraws = 0x544f;  // topics of random numbers, apart from the kernels' own

Status refuse(const char* key, const std::string& what) { return fail(Code::E_CONFIG, "config: {}: {}", key, what); }

}  // namespace

Status Engine::make_efficiency() {
    const EfficiencyConfig& given = config_.efficiency;
    if (!given.batch_growth.is_null()) {
        if (!given.dynamic_batching.is_null()) return refuse("batch_growth", "excludes data_efficiency.data_sampling.dynamic_batching, which sets an update's rows too");
        DS_TRY(growth_, BatchGrowth::make(given.batch_growth, config_.batch.train, config_.batch.train / config_.batch.accumulation));
        if (growth_->wants_noise() && (config_.mesh.sequence > 1 || config_.mesh.pipeline > 1 || config_.mesh.expert > 1))
            return fail(Code::E_UNSUPPORTED, "config: batch_growth.by: noise_scale is not built for parallel.sequence, parallel.pipeline and parallel.expert, where no rank has a part of the batch to itself");
        if (growth_->wants_noise() && config_.batch.accumulation == 1 && (config_.mesh.data == 1 || gradients_leave_at_once()))
            return refuse("batch_growth.by", "noise_scale compares the first micro-batch with the whole batch: with these ranks it needs gradient_accumulation_steps above 1");
        grow_batch();
    }
    if (!given.curriculum.is_null()) {
        if (!model_) return fail(Code::E_UNSUPPORTED, "config: curriculum_learning: rows of a host's own graph are not cut");
        if (given.curriculum.value("curriculum_type", Json()) != "seqlen")
            return refuse("curriculum_learning.curriculum_type", fmt::format("must be seqlen, is {}; data_efficiency.data_sampling.curriculum_learning goes by any column", given.curriculum.value("curriculum_type", Json()).dump()));
        DS_TRY(const Ramp ramp, Ramp::make(given.curriculum, "curriculum_learning", kCurriculumNames));
        curriculum_ = ramp;
    }
    if (!given.dynamic_batching.is_null() && !given.dynamic_batching.value("max_tokens", Json()).is_number())
        return refuse("data_efficiency.data_sampling.dynamic_batching.max_tokens", "needed: tokens of a micro-batch at most");
    DS_CHECK(make_sampling());
    return make_routing();
}

// DeepSpeed's index files hold what is measured here when the data is opened.
Status Engine::make_sampling() {
    const Json& given = config_.efficiency.sampling;
    if (given.is_null()) return ok();
    const std::string section = "data_efficiency.data_sampling.curriculum_learning";
    if (growth_) return refuse("batch_growth", "excludes " + section + ", whose difficulties go by updates of one size");
    if (!config_.efficiency.dynamic_batching.is_null()) return fail(Code::E_UNSUPPORTED, "config: {}: not built together with data_efficiency.data_sampling.dynamic_batching", section);
    const Json metrics = given.value("curriculum_metrics", Json::object());
    if (metrics.empty()) return refuse((section + ".curriculum_metrics").c_str(), "needed: NAME: {min_difficulty, max_difficulty, schedule_type, schedule_config}");
    for (const auto& [name, metric] : metrics.items()) {
        const std::string path = section + ".curriculum_metrics." + name;
        if (!metric.is_object()) return refuse(path.c_str(), fmt::format("must be an object, is {}", metric.dump()));
        for (const auto& [key, value] : metric.items())
            if (constexpr const char* known[] = {"column", "difficulty_type", "clustering_type", "index_to_sample_path", "index_to_metric_path", "min_difficulty", "max_difficulty", "schedule_type", "schedule_config"};
                std::find(std::begin(known), std::end(known), key) == std::end(known))
                return refuse(fmt::format("{}.{}", path, key).c_str(), fmt::format("unknown key; accepted are {}", fmt::join(known, ", ")));
        const Json type = metric.value("difficulty_type", Json("value"));
        if (type != "value" && type != "percentile") return refuse((path + ".difficulty_type").c_str(), fmt::format("must be value or percentile, is {}", type.dump()));
        const Json column = metric.value("column", Json());
        if (!column.is_null() && !column.is_string() && !(column.is_number_integer() && column >= 0)) return refuse((path + ".column").c_str(), fmt::format("must be a column's name or index, is {}", column.dump()));
        DS_TRY(const Ramp ramp, Ramp::make(metric, path, kCurriculumNames));
        row_curriculum_.metrics.push_back({name, column, type == "percentile", ramp.most(), [ramp](int64_t update) { return ramp.at(update); }});
    }
    return ok();
}

void Engine::describe_sampling(DataContext& context) const {
    context.curriculum = row_curriculum_;
    context.curriculum.batches_per_update = config_.batch.accumulation;
    if (!config_.efficiency.sampling.is_null() || !config_.efficiency.dynamic_batching.is_null()) context.seed = static_cast<uint64_t>(config_.efficiency.seed);
    const Json& dynamic = config_.efficiency.dynamic_batching;
    if (dynamic.is_null()) return;
    const auto ranks = static_cast<int64_t>(ranks_->data_ranks().size());
    context.tokens_per_batch = dynamic.value("max_tokens", int64_t{0}) * ranks;
    context.min_rows = dynamic.value("min_batch_size", int64_t{1}) * ranks;
    if (const Json most = dynamic.value("max_batch_size", Json()); most.is_number()) context.max_rows = most.get<int64_t>() * ranks;
    context.picking_order = dynamic.value("sequence_picking_order", "dataloader");
}

Status Engine::make_routing() {
    const EfficiencyConfig& given = config_.efficiency;
    if (given.random_ltd.is_null() && given.layer_drop.is_null()) return ok();
    const char* section = given.random_ltd.is_null() ? "progressive_layer_drop" : "data_efficiency.data_routing.random_ltd";
    const auto lack = [&](const char* what) { return fail(Code::E_UNSUPPORTED, "config: {}: not built for {}", section, what); };
    if (!model_) return lack("a host's own graph");
    if (model_->encoder_decoder) return lack("encoder-decoders");
    if (config_.mesh.pipeline > 1) return lack("parallel.pipeline, whose stages are cut between blocks");
    const PlanKey smallest = smallest_key();
    DS_TRY(const Graph graph, program_->build(smallest.shape, smallest.outputs));
    blocks_ = count_blocks(graph);
    if (!given.layer_drop.is_null()) {
        Graph probe = graph;
        DS_CHECK(route_blocks(probe, {.skipped = std::vector<bool>(static_cast<size_t>(blocks_), false)}));
    }
    if (given.random_ltd.is_null()) return ok();
    if (config_.mesh.sequence > 1) return lack("parallel.sequence, whose ranks share out the tokens");
    if (config_.sparse_attention.mode != "dense") return lack("sparse_attention, whose blocks are places in whole rows");
    const std::string path = section;
    const Json layers = given.random_ltd.value("random_ltd_layer_id", Json()), total = given.random_ltd.value("total_layer_num", Json()), count = given.random_ltd.value("random_ltd_layer_num", Json());
    if (!layers.is_array() || layers.empty() || !std::all_of(layers.begin(), layers.end(), [&](const Json& x) { return x.is_number_integer() && x >= 0 && x < blocks_; }))
        return refuse((path + ".random_ltd_layer_id").c_str(), fmt::format("must be a list of blocks from 0 to {}, is {}", blocks_ - 1, layers.dump()));
    if (total.is_number() && total != blocks_) return refuse((path + ".total_layer_num").c_str(), fmt::format("is {}, but this model has {} blocks", total.dump(), blocks_));
    if (count.is_number() && count != layers.size()) return refuse((path + ".random_ltd_layer_num").c_str(), fmt::format("is {}, but random_ltd_layer_id has {} entries", count.dump(), layers.size()));
    ltd_blocks_ = layers.get<std::vector<int64_t>>();
    std::sort(ltd_blocks_.begin(), ltd_blocks_.end());
    ltd_blocks_.erase(std::unique(ltd_blocks_.begin(), ltd_blocks_.end()), ltd_blocks_.end());
    DS_TRY(const Ramp ramp, Ramp::make(given.random_ltd.value("random_ltd_schedule", Json::object()), path + ".random_ltd_schedule", kRandomLtdNames));
    kept_tokens_ = ramp;
    return ok();
}

// More rows are more micro-batches: no plan, no layout and no memory changes.
void Engine::grow_batch() {
    if (!growth_) return;
    const int64_t unit = config_.batch.train / config_.batch.accumulation;
    config_.batch.train = growth_->rows();
    config_.batch.accumulation = growth_->rows() / unit;
    config_.effective["train_batch_size"] = config_.batch.train;
    config_.effective["gradient_accumulation_steps"] = config_.batch.accumulation;
}

// What the schedule's rates are multiplied with.
double Engine::lr_factor() const {
    if (growth_) return growth_->lr_factor();
    const Json& dynamic = config_.efficiency.dynamic_batching;
    if (dynamic.is_null() || samples_in_step_ == 0) return 1;
    return scaled_rate(dynamic.value("lr_scaling_method", "linear"), static_cast<double>(samples_in_step_), static_cast<double>(config_.batch.train));
}

// Rows of training, cut to the length that the curriculum has reached. Labels of what is cut go with it.
Batch Engine::shortened(const Batch& batch) {
    const int64_t length = std::max<int64_t>(curriculum_->at(global_steps_ + 1), 1);
    put_metric("curriculum_difficulty", static_cast<double>(length));
    Batch shorter;
    for (const auto& [name, tensor] : batch) shorter[name] = tensor.shape.size() == 2 && tensor.shape[1] > length ? slice(tensor, 1, 0, length) : tensor;
    return shorter;
}

// Draws what this micro-batch leaves out.
void Engine::route(Pass& pass) {
    BlockRoute routing;
    std::vector<float> scales;
    if (!config_.efficiency.layer_drop.is_null()) {
        const Json& drop = config_.efficiency.layer_drop;
        const double theta = layer_theta(drop.value("theta", 1.0), drop.value("gamma", 0.001), global_steps_);
        const CounterRandom random = CounterRandom(static_cast<uint64_t>(config_.seed)).at(kLayerDraws).at(pass.draw);
        for (int64_t i = 0; i < blocks_; ++i) {
            const double kept = 1 - static_cast<double>(i) / static_cast<double>(blocks_) * (1 - theta);
            routing.skipped.push_back(random.unit(static_cast<uint64_t>(i)) >= kept);
            scales.push_back(static_cast<float>(1 / kept));
        }
        put_metric("layer_drop_theta", theta);
        put_metric("layers_skipped", static_cast<double>(std::count(routing.skipped.begin(), routing.skipped.end(), true)));
    }
    const int64_t keep = kept_tokens_ ? std::max<int64_t>(kept_tokens_->at(global_steps_), 1) : 0;
    if (kept_tokens_) put_metric("random_ltd_kept", static_cast<double>(keep));
    for (Packed& part : pass.packed) {
        if (part.inputs.empty()) continue;  // without rows, or another process's
        part.routing = routing;
        for (size_t i = 0; i < scales.size(); ++i) part.inputs[block_operand(static_cast<int64_t>(i), "scale")] = HostTensor::of<float>(DType::f32, {1}, std::span(&scales[i], 1));
        if (kept_tokens_) drop_tokens(part, keep, pass.draw);
    }
}

// Of each row, the tokens whose random numbers are least stay, in their order; a row that is no longer than what is kept stays whole.
void Engine::drop_tokens(Packed& part, int64_t keep, uint64_t draw) const {
    const auto segments = part.inputs.at("segments").as<int32_t>(), places = part.inputs.at("places").as<int32_t>();
    const auto rows = static_cast<size_t>(part.shape.rows);
    std::vector<int32_t> ends(1, 0);
    for (size_t r = 0; r < rows; ++r) ends.push_back(ends.back() + static_cast<int32_t>(std::min<int64_t>(segments[r + 1] - segments[r], keep)));
    if (ends.back() == segments[rows]) return;  // nothing is dropped
    const int64_t kept = bucket(ends.back()), tokens = part.shape.tokens;
    part.routing.by_tokens = ltd_blocks_;
    part.routing.tokens = tokens;
    part.routing.kept = kept;
    for (const int64_t block : ltd_blocks_) {
        const CounterRandom random = CounterRandom(static_cast<uint64_t>(config_.seed)).at(kTokenDraws).at(draw).at(static_cast<uint64_t>(block));
        std::vector<int32_t> chosen, merge(static_cast<size_t>(tokens));
        std::iota(merge.begin(), merge.end(), 0);
        for (size_t r = 0; r < rows; ++r) {
            std::vector<int32_t> row(static_cast<size_t>(segments[r + 1] - segments[r]));
            std::iota(row.begin(), row.end(), segments[r]);
            const auto n = static_cast<std::ptrdiff_t>(ends[r + 1] - ends[r]);
            std::partial_sort(row.begin(), row.begin() + n, row.end(), [&](int32_t a, int32_t b) {
                const uint64_t x = random.bits(static_cast<uint64_t>(places[static_cast<size_t>(a)])), y = random.bits(static_cast<uint64_t>(places[static_cast<size_t>(b)]));
                return x != y ? x < y : a < b;
            });
            std::sort(row.begin(), row.begin() + n);
            for (std::ptrdiff_t i = 0; i < n; ++i) {
                merge[static_cast<size_t>(row[static_cast<size_t>(i)])] = static_cast<int32_t>(tokens + static_cast<int64_t>(chosen.size()));
                chosen.push_back(row[static_cast<size_t>(i)]);
            }
        }
        put_kept(part, block, chosen, ends, merge);
    }
}

// A block's operands: which tokens it sees, and of what the stream's operands say about tokens, those entries.
void Engine::put_kept(Packed& part, int64_t block, std::vector<int32_t> chosen, const std::vector<int32_t>& ends, const std::vector<int32_t>& merge) {
    const int64_t tokens = part.routing.tokens, kept = part.routing.kept;
    chosen.resize(static_cast<size_t>(kept), -1);  // filler: rows of zeros, which belong to no row of the batch
    std::map<std::string, HostTensor> own;
    for (const auto& [name, tensor] : part.inputs) {
        if (name.starts_with("block") || tensor.shape != Shape{tokens} || name == "labels") continue;
        HostTensor few = HostTensor::zeros(tensor.dtype, {kept});
        const auto size = static_cast<size_t>(size_of(tensor.dtype));
        for (size_t i = 0; i < chosen.size(); ++i)
            if (chosen[i] >= 0) std::memcpy(static_cast<char*>(few.data) + i * size, static_cast<const char*>(tensor.data) + static_cast<size_t>(chosen[i]) * size, size);
        own[block_operand(block, name)] = std::move(few);
    }
    own[block_operand(block, "segments")] = HostTensor::of<int32_t>(DType::i32, {static_cast<int64_t>(ends.size())}, ends);
    own[block_operand(block, "kept")] = HostTensor::of<int32_t>(DType::i32, {kept}, chosen);
    own[block_operand(block, "merge")] = HostTensor::of<int32_t>(DType::i32, {tokens}, merge);
    part.inputs.merge(own);
}

// With ZeRO 2 and 3 a rank has sums over data ranks at once.
bool Engine::gradients_leave_at_once() const { return config_.zero_stage >= 2 && config_.mesh.data > 1; }

// The mean over data ranks of what each rank's own gradients have as squares.
Result<double> Engine::own_squares() {
    std::vector<std::pair<int, double>> sums;
    for (const auto& rank : *ranks_) sums.emplace_back(rank->index, 0.0);
    const Status status = ranks_->each([&](Rank& rank) -> Status {
        for (const Param& p : rank.params->all()) {
            if (!p.trainable || (p.cut.whole() && rank.at(MeshAxis::tensor) != 0)) continue;
            const Interval held = gradients_leave_at_once() ? p.share : p.grad.elements;
            if (held.size() == 0 || rank.backwards == 0) continue;
            DS_TRY(const double sum, squares_of(rank, rank.params->grad(p, held.begin), held.size()));
            sums[static_cast<size_t>(rank.index - sums.front().first)].second += sum;
        }
        return ok();
    });
    DS_CHECK(status);
    DS_TRY(const std::vector<double> all, of_all("noise_scale", sums, static_cast<size_t>(ranks_->mesh().ranks())));
    return std::accumulate(all.begin(), all.end(), 0.0);
}

// After the first backward of an update. Where one micro-batch is all, data ranks are compared instead (measure_ranks).
Status Engine::measure_first() {
    if (!growth_ || !growth_->wants_noise() || config_.batch.accumulation == 1 || micro_in_step_ != 1) return ok();
    const int ranks = ranks_->extent(MeshAxis::data);
    const double scale = (scaler_ ? scaler_->scale() : 1) / (config_.sum_over_ranks ? ranks : 1);
    DS_TRY(const double squares, own_squares());
    // A rank's gradient is that of its rows, which count for a rank's share of the whole; its mean over rows is `ranks` times as large.
    const bool summed = ranks == 1 || gradients_leave_at_once();
    const double factor = summed ? 1 : static_cast<double>(ranks);
    first_ = NoiseSample{static_cast<double>(samples_in_step_) / (summed ? 1 : ranks), squares * factor / (scale * scale), 0, 0};
    return ok();
}

// Before data ranks' gradients are added up.
Status Engine::measure_ranks() {
    if (!growth_ || !growth_->wants_noise() || config_.batch.accumulation > 1) return ok();
    const int ranks = ranks_->extent(MeshAxis::data);
    DS_TRY(const double squares, own_squares());
    const double factor = final_factor();
    first_ = NoiseSample{static_cast<double>(samples_in_step_) / ranks, squares * ranks * factor * factor, 0, 0};
    return ok();
}

void Engine::let_batch_grow(bool skipped) {
    if (!growth_) return;
    StepFacts facts{global_steps_, total_tokens_, std::nullopt, std::nullopt};
    if (!skipped) {
        if (step_loss_weight_ > 0) facts.loss = step_loss_sum_ / step_loss_weight_;
        if (first_) {
            facts.noise = first_;
            facts.noise->rows = static_cast<double>(samples_in_step_);
            facts.noise->squares = last_norm_ * last_norm_;
        }
    }
    first_.reset();
    growth_->step(facts);
    if (growth_->wants_noise()) put_metric("noise_scale", growth_->noise_scale());
}

Json Engine::save_efficiency() const {
    Json state = Json::object();
    if (growth_) state["batch_growth"] = growth_->state();
    return state;
}

Status Engine::restore_efficiency(const Json& state) {
    if (growth_ && state.contains("batch_growth")) DS_CHECK(growth_->restore(state["batch_growth"]));
    grow_batch();
    return ok();
}

}  // namespace ds
