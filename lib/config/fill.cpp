// The value of every key, and the typed settings from them.
#include "config/elasticity.h"
#include "config/keys.h"
#include "config/stages.h"

namespace ds {
namespace {

// Reads checked values of the effective configuration: a missing or mistyped one would be a fault of keys.def, which the tests find.
struct Reader {
    const Json& all;
    const Json& json(const char* path) const {
        static const Json kNull;
        const Json* value = at_path(all, path);
        return value ? *value : kNull;
    }
    bool flag(const char* path) const { return json(path) == true; }
    int64_t integer(const char* path) const { return json(path).is_number() ? json(path).get<int64_t>() : 0; }
    double number(const char* path) const { return json(path).is_number() ? json(path).get<double>() : 0; }
    std::string text(const char* path) const { return json(path).is_string() ? json(path).get<std::string>() : std::string(); }
    std::optional<int64_t> optional_integer(const char* path) const {
        return json(path).is_null() ? std::nullopt : std::optional(integer(path));
    }
    Json map(const char* path) const { return json(path).is_object() ? json(path) : Json::object(); }
    TypeAndParams typed(const char* section) const {
        return {text((std::string(section) + ".type").c_str()), map((std::string(section) + ".params").c_str())};
    }
};

std::vector<ParamGroupConfig> param_groups(const Json& list) {
    std::vector<ParamGroupConfig> groups;
    for (const Json& item : list) {
        ParamGroupConfig group;
        for (const auto& [key, value] : item.items()) {
            if (value.is_null()) continue;
            if (key == "name") group.name = value;
            else if (key == "frozen") group.frozen = value;
            else if (key == "match")
                group.match =
                    value.is_string() ? std::vector<std::string>{value.get<std::string>()} : value.get<std::vector<std::string>>();
            else group.settings[key] = value;
        }
        groups.push_back(std::move(group));
    }
    return groups;
}

std::vector<int64_t> integers(const Json& list) {
    std::vector<int64_t> values;
    for (const Json& item : list) values.push_back(item.is_number_integer() ? item.get<int64_t>() : -1);  // -1: told by who checks the list
    return values;
}

SparseAttentionConfig sparse_attention_of(const Reader& read) {
    if (!read.json("sparse_attention").is_object()) return {};
    const auto at = [](const char* key) { return std::string("sparse_attention.") + key; };
    const auto number = [&](const char* key) { return read.integer(at(key).c_str()); };
    return {
        .mode = read.text(at("mode").c_str()),
        .attention = read.text(at("attention").c_str()),
        .block = number("block"),
        .num_local_blocks = number("num_local_blocks"),
        .num_global_blocks = number("num_global_blocks"),
        .num_different_global_patterns = number("num_different_global_patterns"),
        .num_random_blocks = number("num_random_blocks"),
        .num_sliding_window_blocks = number("num_sliding_window_blocks"),
        .different_layout_per_head = read.flag(at("different_layout_per_head").c_str()),
        .horizontal_global_attention = read.flag(at("horizontal_global_attention").c_str()),
        .local_window_blocks = integers(read.json(at("local_window_blocks").c_str())),
        .global_block_indices = integers(read.json(at("global_block_indices").c_str())),
        .global_block_end_indices = integers(read.json(at("global_block_end_indices").c_str())),
    };
}

void fill_precision(const Reader& read, Config& config) {
    const bool f16 = read.flag("fp16.enabled"), bf16 = read.flag("bf16.enabled");
    config.precision = f16 ? PrecisionMode::f16 : bf16 ? PrecisionMode::bf16 : PrecisionMode::f32;
    config.fp16 = {read.number("fp16.loss_scale"),  read.integer("fp16.initial_scale_power"), read.number("fp16.loss_scale_window"),
                   read.integer("fp16.hysteresis"), read.flag("fp16.consecutive_hysteresis"), read.number("fp16.min_loss_scale")};
    config.skip_on_overflow = f16 || (bf16 && read.flag("bf16.check_grad_overflow"));
    config.precision_rules = parse_precision(read.json("precision")).value_or(std::vector<PrecisionRule>());
    config.stochastic_rounding = read.flag("bf16.stochastic_rounding");
    config.fp8 = {read.flag("fp8.enabled"), std::nullopt};
    if (const Json& skip = read.json("fp8.filter_fqns"); skip.is_array()) config.fp8.skip = skip.get<std::vector<std::string>>();
    config.grad_accum_dtype = parse_float_dtype(read.json("data_types.grad_accum_dtype")).value_or(DType::f32);
}

void fill_model(const Reader& read, Config& config) {
    config.model = read.json("model");
    config.model_overrides = read.map("model_overrides");
    config.random_init = read.text("model_init") == "random";
    config.tokenizer = read.text("tokenizer");
    config.outputs = read.json("outputs").get<std::vector<std::string>>();
    config.data = read.map("data");
    if (read.flag("dataloader_drop_last") && !config.data.contains("drop_last")) config.data["drop_last"] = true;
    config.max_seq_length = read.optional_integer("max_seq_length");
    config.steps_per_epoch = read.optional_integer("steps_per_epoch");
}

void fill_zero(const Reader& read, Config& config) {
    const auto size = [&](const char* key) { return read.integer((std::string("zero_optimization.") + key).c_str()); };
    config.zero = {
        .reduce_bucket = size("reduce_bucket_size"),
        .allgather_bucket = size("allgather_bucket_size"),
        .persistence_threshold = size("param_persistence_threshold"),
        .model_persistence_threshold = size("model_persistence_threshold"),
        .max_live = size("max_live_parameters"),
        .max_reuse = size("max_reuse_distance"),
        .prefetch = size("prefetch_bucket_size"),
    };
    const auto text = [&](const std::string& key) { return read.text(("zero_optimization." + key).c_str()); };
    config.zero.offload_optimizer = {.device = text("offload_optimizer.device"),
                                     .path = text("offload_optimizer.nvme_path"),
                                     .buffers = size("offload_optimizer.buffer_count")};
    config.zero.offload_param = {
        .device = text("offload_param.device"),
        .path = text("offload_param.nvme_path"),
        .buffers = size("offload_param.buffer_count"),
        .buffer_elements = size("offload_param.buffer_size"),
        .in_memory = size("offload_param.max_in_cpu"),
    };
    const Json& overlap = read.json("zero_optimization.overlap_comm");
    config.zero.overlap = overlap.is_null() ? config.zero_stage == 3 : overlap.get<bool>();
    config.zero.disk_threads = read.integer("aio.intra_op_parallelism");
    config.zero.disk_block = read.integer("aio.block_size");
    config.communication = parse_float_dtype(read.json("communication_data_type")).value_or(DType::f32);
    config.sparse_gradients = read.flag("sparse_gradients");
    config.sum_over_ranks = read.text("gradient_allreduce_op") == "sum";
}

void fill_lora(const Reader& read, Config& config) {
    LoraConfig& lora = config.lora;
    lora.enabled = read.json("lora").is_object();
    if (!lora.enabled) return;
    lora.r = read.integer("lora.r");
    lora.alpha = read.number("lora.alpha");
    lora.dropout = read.number("lora.dropout");
    const Json& targets = read.json("lora.target_modules");
    if (targets.is_string()) lora.target_modules = {targets.get<std::string>()};
    else if (targets.is_array()) lora.target_modules = targets.get<std::vector<std::string>>();
    lora.modules_to_save = read.json("lora.modules_to_save").get<std::vector<std::string>>();
    lora.bias = read.text("lora.bias");
    lora.use_rslora = read.flag("lora.use_rslora");
    const Json adapters = read.map("lora.adapters");
    for (const auto& [name, folder] : adapters.items()) lora.adapters[name] = folder.is_string() ? folder.get<std::string>() : "";
    lora.adapter = read.text("lora.adapter");
}

void fill_quantization(const Reader& read, Config& config) {
    QuantizationConfig& quantization = config.quantization;
    quantization.enabled = read.json("quantization").is_object();
    if (!quantization.enabled) return;
    quantization.code.bits = read.flag("quantization.load_in_16bit") ? 16 : read.flag("quantization.load_in_8bit") ? 8 : 4;
    quantization.code.two_levels = quantization.code.bits == 4 && read.flag("quantization.bnb_4bit_use_double_quant");
    if (read.json("quantization.bnb_4bit_quant_type") == "int4" && quantization.code.bits == 4) {
        quantization.code.group = read.json("quantization.group_size").get<int64_t>();
        quantization.code.asymmetric = !read.flag("quantization.sym");
    }
    quantization.code.by_output = read.flag("quantization.int8_products");
    if (const Json& skip = read.json("quantization.llm_int8_skip_modules"); skip.is_array())
        quantization.skip = skip.get<std::vector<std::string>>();
}

void fill_sparse_weights(const Reader& read, Config& config) {
    config.sparse_weights = {read.flag("sparse_weights.enabled"), read.number("sparse_weights.max_density")};
}

// Sections that are on, as are those around them.
void fill_efficiency(const Reader& read, Config& config) {
    const auto section = [&](const std::string& path) -> Json {
        for (size_t dot = path.find('.');; dot = path.find('.', dot + 1)) {
            if (!read.flag((path.substr(0, dot) + ".enabled").c_str())) return nullptr;
            if (dot == path.npos) return read.json(path.c_str());
        }
    };
    config.efficiency = {
        .batch_growth = read.json("batch_growth"),
        .curriculum = section("curriculum_learning"),
        .sampling = section("data_efficiency.data_sampling.curriculum_learning"),
        .dynamic_batching = section("data_efficiency.data_sampling.dynamic_batching"),
        .random_ltd = section("data_efficiency.data_routing.random_ltd"),
        .layer_drop = section("progressive_layer_drop"),
        .seed = read.integer("data_efficiency.seed"),
    };
    for (const char* technique : {"weight_quantization", "activation_quantization", "sparse_pruning", "row_pruning", "head_pruning"})
        if (read.flag((std::string("compression_training.") + technique + ".shared_parameters.enabled").c_str()))
            config.compression = read.json("compression_training");
    for (const char* way : {"layer_reduction", "knowledge_distillation"})
        if (read.flag((std::string("compression_training.") + way + ".enabled").c_str()))
            config.compression = read.json("compression_training");
}

void fill_run(const Reader& read, Config& config) {
    config.optimizer = read.typed("optimizer");
    if (config.optimizer.params.contains("lr") && config.optimizer.params["lr"] == "auto")
        config.warnings.push_back(
            "config: optimizer.params.lr: \"auto\" is for Hugging Face's Trainer to fill in; the optimizer's own default is taken");
    config.scheduler = read.typed("scheduler");
    config.param_groups = param_groups(read.json("param_groups"));
    config.clipping = parse_clipping(read.json("gradient_clipping")).value_or(Clipping{});
    config.pipeline = {read.text("pipeline.schedule"), read.text("pipeline.partition"), read.integer("pipeline.chunks"),
                       read.json("pipeline.active_stages").is_number() ? read.json("pipeline.active_stages").get<int64_t>() : 0};
    config.loss_normalization = read.text("loss_normalization");
    config.zero_stage = read.integer("zero_optimization.stage");
    fill_zero(read, config);
    config.distributed = read.text("distributed");
    config.comm = {read.number("comm.deadline_seconds"), read.number("comm.join_seconds"), read.number("comm.heartbeat_seconds"),
                   read.text("comm.secret_file"), read.text("comm.interface")};
    config.device = read.text("device");
    config.threads = read.integer("threads");
    config.seed = read.integer("seed");
    config.deterministic = read.flag("deterministic");
    config.recompute = parse_recompute(read.json("recompute")).value_or(0);
    config.memory_limit = read.integer("memory_limit");
    config.optimizer_in_backward = read.flag("optimizer_in_backward");
    config.moe = {read.flag("moe.drop_tokens"), read.number("moe.capacity_factor"), read.number("moe.eval_capacity_factor"),
                  read.integer("moe.min_capacity")};
    config.sparse_attention = sparse_attention_of(read);
    config.steps_per_print = read.optional_integer("steps_per_print");
    config.dump_state = read.flag("dump_state");
    const Json levels = read.map("logger");
    for (const auto& item : levels.items())
        config.log_levels[item.key() == "default_verbosity" ? "" : item.key()] = parse_log_level(item.value()).value_or(3);
    if (const auto vocabulary = read.optional_integer("vocabulary_size"); vocabulary && *vocabulary % 8 != 0)
        config.warnings.push_back(fmt::format("config: vocabulary_size: {} is not a multiple of 8, which matrix units like", *vocabulary));
}

// Elasticity chooses the batch, from the number of data-parallel ranks.
Status fill_elastic(const Reader& read, Config& config) {
    for (const char* key : {"elasticity.max_train_batch_size", "elasticity.micro_batch_sizes"})
        if (!at_path(config.given, key)) return fail(Code::E_CONFIG, "config: {}: must be given where elasticity.enabled is true", key);
    const ElasticSettings settings{read.integer("elasticity.max_train_batch_size"),
                                   integers(read.json("elasticity.micro_batch_sizes")),
                                   read.integer("elasticity.min_gpus"),
                                   read.integer("elasticity.max_gpus"),
                                   read.integer("elasticity.num_gpus_per_node"),
                                   read.integer("elasticity.model_parallel_size"),
                                   read.flag("elasticity.prefer_larger_batch"),
                                   read.number("elasticity.version")};
    DS_TRY(config.batch, resolve_elastic(settings, config.mesh.data));
    if (const int64_t others = config.mesh.tensor * config.mesh.pipeline * config.mesh.sequence;
        settings.model_ranks > 1 && settings.model_ranks != others)
        return fail(Code::E_CONFIG,
                    "config: elasticity.model_parallel_size: must be the ranks that share a copy, which parallel makes {}, is {}", others,
                    settings.model_ranks);
    for (const auto& [key, chosen] :
         {std::pair("train_batch_size", config.batch.train), std::pair("train_micro_batch_size_per_gpu", config.batch.micro),
          std::pair("gradient_accumulation_steps", config.batch.accumulation)}) {
        if (read.json(key).is_null()) continue;
        if (!read.flag("elasticity.ignore_non_elastic_batch_info"))
            return fail(Code::E_CONFIG,
                        "config: {}: elasticity.enabled chooses it; leave it out, or set elasticity.ignore_non_elastic_batch_info", key);
        config.warnings.push_back(fmt::format("config: {}: {} becomes {}, which elasticity chooses", key, read.integer(key), chosen));
    }
    config.batch_is_given = true;
    return ok();
}

Status fill_sizes(const Reader& read, Config& config) {
    const MeshSizes degrees{read.integer("parallel.tensor"),   read.integer("parallel.pipeline"), 1,
                            read.integer("parallel.sequence"), read.integer("parallel.expert"),   1};
    if (config.distributed != "none") {
        DS_CHECK(Status(config.launched.problem).within("config: distributed"));
        config.processes = config.launched.processes;
    }
    DS_TRY(config.mesh,
           resolve_mesh(degrees, read.optional_integer("parallel.data"), read.optional_integer("parallel.local_ranks"), config.processes));
    config.sequence_attention = read.text("parallel.sequence_attention");
    config.sequence_regions = read.text("parallel.sequence_regions");
    if (read.flag("elasticity.enabled")) return fill_elastic(read, config);
    const auto train = read.optional_integer("train_batch_size"), accumulation = read.optional_integer("gradient_accumulation_steps");
    auto micro = read.optional_integer("train_micro_batch_size_per_gpu");
    // An engine that evaluates or generates takes rows as they come; DeepSpeed's sizes are about updates, of which it makes none.
    config.batch_is_given = train || micro;
    if (!config.batch_is_given && !accumulation && config.optimizer.type.empty()) micro = 1;
    DS_TRY(config.batch, resolve_batch(train, micro, accumulation, config.mesh.data));
    return ok();
}

// What was left to be derived, back into the effective configuration.
void show_derived(Config& config) {
    Json& all = config.effective;
    all["train_batch_size"] = config.batch.train;
    all["train_micro_batch_size_per_gpu"] = config.batch.micro;
    all["gradient_accumulation_steps"] = config.batch.accumulation;
    set_path(all, "parallel.data", config.mesh.data);
    set_path(all, "parallel.local_ranks", config.mesh.local_ranks);
    set_path(all, "zero_optimization.overlap_comm", config.zero.overlap);
    if (at_path(all, "data_types.grad_accum_dtype")->is_null()) set_path(all, "data_types.grad_accum_dtype", "fp32");
}

}  // namespace

Json with_defaults(const Json& given) {
    Json all = Json::object();
    for (const Key& key : config_keys()) {
        if (key.in_list()) continue;
        const std::string_view path = key.path;
        const size_t dot = path.rfind('.');
        if (dot != path.npos && at_path(all, path.substr(0, dot))->is_null()) continue;  // a key of a section that is off
        const Json* value = at_path(given, path);
        set_path(all, path, !value ? key.default_value() : key.is_section() ? Json::object() : *value);
    }
    return all;
}

Status fill(Config& config) {
    config.effective = with_defaults(config.given);
    const Reader read{config.effective};
    fill_model(read, config);
    fill_run(read, config);
    fill_lora(read, config);
    fill_quantization(read, config);
    fill_sparse_weights(read, config);
    fill_efficiency(read, config);
    fill_precision(read, config);
    DS_CHECK(fill_sizes(read, config));
    show_derived(config);
    return ok();
}

}  // namespace ds
