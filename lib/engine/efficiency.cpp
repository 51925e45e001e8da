// All of it is decided from counters and seeds when a micro-batch is packed, alike for every layout, so a checkpoint that has the engine's
// counters has this too.
#include "engine/efficiency.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "data/random.h"
#include "engine/pack.h"
#include "lr/batch_growth.h"

namespace ds {
namespace {

constexpr uint64_t kLayerDraws = 0x4c41, kTokenDraws = 0x544f;  // topics of random numbers, apart from the kernels' own

Status refuse(const std::string& key, const std::string& what) { return fail(Code::E_CONFIG, "config: {}: {}", key, what); }

// A block's operands: which tokens it sees, and of what the stream's operands say about tokens, those entries.
void put_kept(Packed& part, int64_t block, std::vector<int32_t> chosen, const std::vector<int32_t>& ends,
              const std::vector<int32_t>& merge) {
    const int64_t tokens = part.routing.tokens, kept = part.routing.kept;
    chosen.resize(static_cast<size_t>(kept), -1);  // filler: rows of zeros, which belong to no row of the batch
    std::map<std::string, HostTensor> own;
    for (const auto& [name, tensor] : part.inputs) {
        if (name.starts_with("block") || tensor.shape != Shape{tokens} || name == "labels") continue;
        HostTensor few = HostTensor::zeros(tensor.dtype, {kept});
        const auto size = static_cast<size_t>(size_of(tensor.dtype));
        for (size_t i = 0; i < chosen.size(); ++i)
            if (chosen[i] >= 0)
                std::memcpy(static_cast<char*>(few.data) + i * size,
                            static_cast<const char*>(tensor.data) + static_cast<size_t>(chosen[i]) * size, size);
        own[block_operand(block, name)] = std::move(few);
    }
    own[block_operand(block, "segments")] = HostTensor::of<int32_t>(DType::i32, {static_cast<int64_t>(ends.size())}, ends);
    own[block_operand(block, "kept")] = HostTensor::of<int32_t>(DType::i32, {kept}, chosen);
    own[block_operand(block, "merge")] = HostTensor::of<int32_t>(DType::i32, {tokens}, merge);
    part.inputs.merge(own);
}

}  // namespace

Result<Efficiency> Efficiency::make(const Config& config, const Model* model, const std::function<Result<Graph>()>& smallest_graph) {
    Efficiency made;
    made.config_ = config.efficiency;
    made.seed_ = static_cast<uint64_t>(config.seed);
    const EfficiencyConfig& given = made.config_;
    if (!given.curriculum.is_null()) {
        if (!model) return fail(Code::E_UNSUPPORTED, "config: curriculum_learning: rows of a host's own graph are not cut");
        if (const Json type = given.curriculum.value("curriculum_type", Json()); type != "seqlen")
            return refuse(
                "curriculum_learning.curriculum_type",
                fmt::format("must be seqlen, is {}; data_efficiency.data_sampling.curriculum_learning goes by any column", type.dump()));
        DS_TRY(made.curriculum_, Ramp::make(given.curriculum, "curriculum_learning", kCurriculumNames));
    }
    if (!given.dynamic_batching.is_null() && !given.dynamic_batching.value("max_tokens", Json()).is_number())
        return refuse("data_efficiency.data_sampling.dynamic_batching.max_tokens", "needed: tokens of a micro-batch at most");
    DS_CHECK(made.read_sampling());
    DS_CHECK(made.read_routing(config, model, smallest_graph));
    return made;
}

// DeepSpeed's index files hold what is measured here when the data is opened.
Status Efficiency::read_sampling() {
    const Json& given = config_.sampling;
    if (given.is_null()) return ok();
    const std::string section = "data_efficiency.data_sampling.curriculum_learning";
    if (!config_.dynamic_batching.is_null())
        return fail(Code::E_UNSUPPORTED, "config: {}: not built together with data_efficiency.data_sampling.dynamic_batching", section);
    const Json metrics = given.value("curriculum_metrics", Json::object());
    if (metrics.empty())
        return refuse((section + ".curriculum_metrics").c_str(),
                      "needed: NAME: {min_difficulty, max_difficulty, schedule_type, schedule_config}");
    for (const auto& [name, metric] : metrics.items()) {
        const std::string path = section + ".curriculum_metrics." + name;
        if (!metric.is_object()) return refuse(path.c_str(), fmt::format("must be an object, is {}", metric.dump()));
        for (const auto& [key, value] : metric.items())
            if (constexpr const char* known[] = {"column", "difficulty_type", "clustering_type", "index_to_sample_path",
                                                 "index_to_metric_path", "min_difficulty", "max_difficulty", "schedule_type",
                                                 "schedule_config"};
                std::find(std::begin(known), std::end(known), key) == std::end(known))
                return refuse(fmt::format("{}.{}", path, key).c_str(), fmt::format("unknown key; accepted are {}", fmt::join(known, ", ")));
        const Json type = metric.value("difficulty_type", Json("value"));
        if (type != "value" && type != "percentile")
            return refuse((path + ".difficulty_type").c_str(), fmt::format("must be value or percentile, is {}", type.dump()));
        const Json column = metric.value("column", Json());
        if (!column.is_null() && !column.is_string() && !(column.is_number_integer() && column >= 0))
            return refuse((path + ".column").c_str(), fmt::format("must be a column's name or index, is {}", column.dump()));
        DS_TRY(const Ramp ramp, Ramp::make(metric, path, kCurriculumNames));
        row_curriculum_.metrics.push_back(
            {name, column, type == "percentile", ramp.most(), [ramp](int64_t update) { return ramp.at(update); }});
    }
    return ok();
}

Status Efficiency::read_routing(const Config& config, const Model* model, const std::function<Result<Graph>()>& smallest_graph) {
    const EfficiencyConfig& given = config_;
    if (given.random_ltd.is_null() && given.layer_drop.is_null()) return ok();
    const char* section = given.random_ltd.is_null() ? "progressive_layer_drop" : "data_efficiency.data_routing.random_ltd";
    const auto lack = [&](const char* what) { return fail(Code::E_UNSUPPORTED, "config: {}: not built for {}", section, what); };
    if (!model) return lack("a host's own graph");
    if (model->encoder_decoder) return lack("encoder-decoders");
    if (config.mesh.pipeline > 1) return lack("parallel.pipeline, whose stages are cut between blocks");
    DS_TRY(const Graph graph, smallest_graph());
    blocks_ = count_blocks(graph);
    if (!given.layer_drop.is_null()) {
        Graph probe = graph;
        DS_CHECK(route_blocks(probe, {.skipped = std::vector<bool>(static_cast<size_t>(blocks_), false)}));
    }
    if (given.random_ltd.is_null()) return ok();
    if (config.mesh.sequence > 1) return lack("parallel.sequence, whose ranks share out the tokens");
    if (config.sparse_attention.mode != "dense") return lack("sparse_attention, whose blocks are places in whole rows");
    const std::string path = section;
    const Json layers = given.random_ltd.value("random_ltd_layer_id", Json()), total = given.random_ltd.value("total_layer_num", Json()),
               count = given.random_ltd.value("random_ltd_layer_num", Json());
    if (!layers.is_array() || layers.empty() ||
        !std::all_of(layers.begin(), layers.end(), [&](const Json& x) { return x.is_number_integer() && x >= 0 && x < blocks_; }))
        return refuse((path + ".random_ltd_layer_id").c_str(),
                      fmt::format("must be a list of blocks from 0 to {}, is {}", blocks_ - 1, layers.dump()));
    if (total.is_number() && total != blocks_)
        return refuse((path + ".total_layer_num").c_str(), fmt::format("is {}, but this model has {} blocks", total.dump(), blocks_));
    if (count.is_number() && count != layers.size())
        return refuse((path + ".random_ltd_layer_num").c_str(),
                      fmt::format("is {}, but random_ltd_layer_id has {} entries", count.dump(), layers.size()));
    ltd_blocks_ = layers.get<std::vector<int64_t>>();
    std::sort(ltd_blocks_.begin(), ltd_blocks_.end());
    ltd_blocks_.erase(std::unique(ltd_blocks_.begin(), ltd_blocks_.end()), ltd_blocks_.end());
    DS_TRY(const Ramp ramp,
           Ramp::make(given.random_ltd.value("random_ltd_schedule", Json::object()), path + ".random_ltd_schedule", kRandomLtdNames));
    kept_tokens_ = ramp;
    return ok();
}

void Efficiency::describe(DataContext& context, int64_t batches_per_update) const {
    context.curriculum = row_curriculum_;
    context.curriculum.batches_per_update = batches_per_update;
    const Json& dynamic = config_.dynamic_batching;
    if (!config_.sampling.is_null() || !dynamic.is_null()) context.seed = static_cast<uint64_t>(config_.seed);
    if (dynamic.is_null()) return;
    context.tokens_per_batch = dynamic.value("max_tokens", int64_t{0});
    context.min_rows = dynamic.value("min_batch_size", int64_t{1});
    if (const Json most = dynamic.value("max_batch_size", Json()); most.is_number()) context.max_rows = most.get<int64_t>();
    context.picking_order = dynamic.value("sequence_picking_order", "dataloader");
}

double Efficiency::lr_factor(int64_t rows, int64_t usual_rows) const {
    if (config_.dynamic_batching.is_null() || rows == 0) return 1;
    return scaled_rate(config_.dynamic_batching.value("lr_scaling_method", "linear"), static_cast<double>(rows),
                       static_cast<double>(usual_rows));
}

Batch Efficiency::shortened(const Batch& batch, bool token_labels, int64_t step, Metrics& metrics) const {
    const int64_t length = std::max<int64_t>(curriculum_->at(step + 1), 1);
    metrics.put("curriculum_difficulty", static_cast<double>(length));
    Batch shorter;
    for (const auto& [name, tensor] : batch) {
        const bool by_token = tensor.shape.size() == 2 && (name != "labels" || token_labels);
        shorter[name] = by_token && tensor.shape[1] > length ? slice(tensor, 1, 0, length) : tensor;
    }
    return shorter;
}

void Efficiency::route(std::vector<Packed>& parts, uint64_t draw, int64_t step, Metrics& metrics) const {
    BlockRoute routing;
    std::vector<float> scales;
    if (!config_.layer_drop.is_null()) {
        const double theta = layer_theta(config_.layer_drop.value("theta", 1.0), config_.layer_drop.value("gamma", 0.001), step);
        const CounterRandom random = CounterRandom(seed_).at(kLayerDraws).at(draw);
        for (int64_t i = 0; i < blocks_; ++i) {
            const double kept = 1 - static_cast<double>(i) / static_cast<double>(blocks_) * (1 - theta);
            routing.skipped.push_back(random.unit(static_cast<uint64_t>(i)) >= kept);
            scales.push_back(static_cast<float>(1 / kept));
        }
        metrics.put("layer_drop_theta", theta);
        metrics.put("layers_skipped", static_cast<double>(std::count(routing.skipped.begin(), routing.skipped.end(), true)));
    }
    const int64_t keep = kept_tokens_ ? std::max<int64_t>(kept_tokens_->at(step), 1) : 0;
    if (kept_tokens_) metrics.put("random_ltd_kept", static_cast<double>(keep));
    for (Packed& part : parts) {
        if (part.inputs.empty()) continue;  // without rows, or another process's
        part.routing = routing;
        for (size_t i = 0; i < scales.size(); ++i)
            part.inputs[block_operand(static_cast<int64_t>(i), "scale")] = HostTensor::of<float>(DType::f32, {1}, std::span(&scales[i], 1));
        if (kept_tokens_) drop_tokens(part, keep, draw);
    }
}

// Of each row, the tokens whose random numbers are least stay, in their order; a row that is no longer than what is kept stays whole.
void Efficiency::drop_tokens(Packed& part, int64_t keep, uint64_t draw) const {
    const auto segments = part.inputs.at("segments").as<int32_t>(), places = part.inputs.at("places").as<int32_t>();
    const auto rows = static_cast<size_t>(part.shape.rows);
    std::vector<int32_t> ends(1, 0);
    for (size_t r = 0; r < rows; ++r)
        ends.push_back(ends.back() + static_cast<int32_t>(std::min<int64_t>(segments[r + 1] - segments[r], keep)));
    if (ends.back() == segments[rows]) return;  // nothing is dropped
    const int64_t kept = bucket(ends.back()), tokens = part.shape.tokens;
    part.routing.by_tokens = ltd_blocks_;
    part.routing.tokens = tokens;
    part.routing.kept = kept;
    for (const int64_t block : ltd_blocks_) {
        const CounterRandom random = CounterRandom(seed_).at(kTokenDraws).at(draw).at(static_cast<uint64_t>(block));
        std::vector<int32_t> chosen, merge(static_cast<size_t>(tokens));
        std::iota(merge.begin(), merge.end(), 0);
        for (size_t r = 0; r < rows; ++r) {
            std::vector<int32_t> row(static_cast<size_t>(segments[r + 1] - segments[r]));
            std::iota(row.begin(), row.end(), segments[r]);
            const auto n = static_cast<std::ptrdiff_t>(ends[r + 1] - ends[r]);
            std::partial_sort(row.begin(), row.begin() + n, row.end(), [&](int32_t a, int32_t b) {
                const uint64_t x = random.bits(static_cast<uint64_t>(places[static_cast<size_t>(a)])),
                               y = random.bits(static_cast<uint64_t>(places[static_cast<size_t>(b)]));
                return x != y ? x < y : a < b;
            });
            std::sort(row.begin(), row.begin() + n);
            for (std::ptrdiff_t i = 0; i < n; ++i) {
                merge[static_cast<size_t>(row[static_cast<size_t>(i)])] =
                    static_cast<int32_t>(tokens + static_cast<int64_t>(chosen.size()));
                chosen.push_back(row[static_cast<size_t>(i)]);
            }
        }
        put_kept(part, block, chosen, ends, merge);
    }
}

}  // namespace ds
