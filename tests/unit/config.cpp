// lib/config: one JSON text becomes settings, and whatever is wrong with it is said.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "config/config.h"
#include "config/keys.h"
#include "lr/schedule.h"

using namespace ds;

namespace {

Config good(const std::string& text) {
    auto config = parse_config(text);
    INFO(text, " -> ", config.status().message());
    REQUIRE(config.ok());
    return std::move(config).value();
}

// The keys beside a batch size, which every configuration needs.
Config with(const std::string& keys) { return good("{\"train_micro_batch_size_per_gpu\": 2, " + keys + "}"); }

std::string refused(const std::string& text, Code code = Code::E_CONFIG) {
    auto config = parse_config(text);
    INFO(text);
    REQUIRE(!config.ok());
    CHECK(config.status().code() == code);
    return config.status().message();
}
std::string bad(const std::string& keys) { return refused("{\"train_micro_batch_size_per_gpu\": 2, " + keys + "}"); }
std::string lacks(const std::string& keys) { return refused("{\"train_micro_batch_size_per_gpu\": 2, " + keys + "}", Code::E_UNSUPPORTED); }

// Everything that the engine can see of a configuration.
std::string fingerprint(const Config& c) {
    Json all = {c.batch.train,
                c.batch.micro,
                c.batch.accumulation,
                c.mesh.tensor,
                c.mesh.pipeline,
                c.mesh.data,
                c.mesh.sequence,
                c.mesh.expert,
                c.comm.deadline_seconds,
                c.comm.join_seconds,
                c.comm.heartbeat_seconds,
                c.comm.secret_file,
                c.comm.interface,
                c.zero_stage,
                c.zero.overlap,
                c.distributed,
                c.model,
                c.model_overrides,
                c.random_init,
                c.tokenizer,
                c.outputs,
                c.data,
                c.max_seq_length.value_or(0),
                c.steps_per_epoch.value_or(0),
                c.optimizer.type,
                c.optimizer.params,
                c.scheduler.type,
                c.scheduler.params,
                c.clipping.norm,
                c.clipping.value,
                c.loss_normalization,
                static_cast<int>(c.precision),
                c.fp16.static_scale,
                c.fp16.initial_scale_power,
                c.fp16.window,
                c.fp16.hysteresis,
                c.fp16.consecutive_hysteresis,
                c.fp16.min_scale,
                c.skip_on_overflow,
                c.stochastic_rounding,
                c.fp8.enabled,
                c.fp8.skip.value_or(std::vector<std::string>{"heads"}),
                name_of(c.grad_accum_dtype),
                c.device,
                c.threads,
                c.seed,
                c.deterministic,
                c.recompute,
                c.memory_limit,
                c.optimizer_in_backward,
                c.steps_per_print.value_or(0),
                c.log_levels,
                c.dump_state,
                c.warnings};
    const SparseAttentionConfig& a = c.sparse_attention;
    all.push_back({a.mode, a.attention, a.block, a.num_local_blocks, a.num_global_blocks, a.num_different_global_patterns,
                   a.num_random_blocks, a.num_sliding_window_blocks, a.different_layout_per_head, a.horizontal_global_attention,
                   a.local_window_blocks, a.global_block_indices, a.global_block_end_indices});
    all.push_back({c.lora.enabled, c.lora.r, c.lora.alpha, c.lora.dropout, c.lora.target_modules, c.lora.modules_to_save, c.lora.bias,
                   c.lora.use_rslora, c.lora.adapters, c.lora.adapter});
    const QuantizationConfig& q = c.quantization;
    all.push_back({q.enabled, q.code.bits, q.code.two_levels, q.code.by_output, q.code.group, q.code.asymmetric,
                   q.skip.value_or(std::vector<std::string>{"heads"}), c.sparse_weights.enabled, c.sparse_weights.max_density});
    all.push_back({name_of(c.communication), c.sparse_gradients, c.sum_over_ranks, c.sequence_attention, c.sequence_regions,
                   c.pipeline.schedule, c.pipeline.partition, c.pipeline.chunks, c.pipeline.active});
    const ZeroConfig& z = c.zero;
    all.push_back({z.reduce_bucket, z.allgather_bucket, z.persistence_threshold, z.model_persistence_threshold, z.max_live, z.max_reuse,
                   z.prefetch, z.disk_threads, z.disk_block});
    for (const OffloadConfig& o : {z.offload_optimizer, z.offload_param})
        all.push_back({o.device, o.path, o.buffers, o.buffer_elements, o.in_memory});
    all.push_back({c.moe.drop_tokens, c.moe.capacity_factor, c.moe.eval_capacity_factor, c.moe.min_capacity});
    const EfficiencyConfig& e = c.efficiency;
    all.push_back({e.batch_growth, e.curriculum, e.sampling, e.dynamic_batching, e.random_ltd, e.layer_drop, e.seed, c.compression,
                   get(c, "checkpoint.tag_validation").value()});
    for (const auto& rule : c.precision_rules) all.push_back({rule.pattern, name_of(rule.dtype)});
    for (const auto& group : c.param_groups) all.push_back({group.name, group.match, group.frozen, group.settings});
    return all.dump();
}

// A value of the key's type and range that isn't its default.
Json another_value(const Key& key) {
    const std::string path = key.path;
    const std::map<std::string, Json> special = {
        {"model", "folder"},
        {"gradient_clipping", 0.25},
        {"recompute", 2},
        {"precision", {{"head*", "f32"}}},
        {"device", "cpu"},
        {"logger", {{"fp16", "DEBUG"}}},
        {"train_batch_size", 4},
        {"param_groups", {{{"match", "*.bias"}, {"weight_decay", 0}}}},
        {"vocabulary_size", 1001},
        {"scheduler.type", "StepLR"},
        {"optimizer.type", "SGD"},
        {"distributed", "none"},
        {"bf16.enabled", false},
        {"data_types.param_dtype", "fp16"},
        {"tensor_parallel.dtype", "bf16"},
        {"quantization.bnb_4bit_compute_dtype", "fp16"},
        {"zero_optimization.legacy_stage1", true},
        {"pipeline.partition", "uniform"},
        {"pipeline.partition_method", "uniform"},
    };
    if (const auto it = special.find(path); it != special.end()) return it->second;
    const Json standard = key.default_value();
    std::vector<Json> candidates = {!(standard == true), 7, 8, 0, 1, 2, 0.5, "bf16", "text", Json::array({"text"}), Json::array({9}),
                                    {{"text", 1}}};
    if (key.rule->choices) {
        std::string list = key.rule->choices;
        for (size_t at; (at = list.find('|')) != list.npos; list.erase(0, at + 1))
            candidates.insert(candidates.begin(), list.substr(0, at));
        candidates.insert(candidates.begin(), list);
    }
    for (Json value : candidates) {
        if (key.type != KeyType::Bool && value.is_boolean()) continue;
        if (check_value(key, path, false, value).ok() && value != standard) return value;
    }
    return Json();
}

// What must stand beside a key for it to count.
Json with_companions(Json config, std::string_view path) {
    if (path.starts_with("elasticity.") && path != "elasticity.enabled") {
        config.erase("train_micro_batch_size_per_gpu");
        config["elasticity"] = {{"enabled", true}, {"max_train_batch_size", 9}, {"micro_batch_sizes", {1, 2, 3}}};
    }
    if (!path.starts_with("quantization.") || path.starts_with("quantization.load_in_")) return config;
    if (path == "quantization.group_size" || path == "quantization.sym") set_path(config, "quantization.bnb_4bit_quant_type", "int4");
    set_path(config, path == "quantization.int8_products" ? "quantization.load_in_8bit" : "quantization.load_in_4bit", true);
    return config;
}

bool gated(std::string_view path) {
    for (size_t dot = path.rfind('.'); dot != path.npos && dot > 0; dot = path.rfind('.', dot - 1))
        for (const char* gate : {".enabled", ".shared_parameters.enabled"}) {
            const std::string full = std::string(path.substr(0, dot)) + gate;
            if (full != path && find_key(full)) return true;
        }
    return false;
}

// Sections whose keys count only while they and those around them are on: all of them on.
Json with_live_switches(Json config) {
    for (const Key& key : config_keys()) {
        const std::string_view path = key.path;
        if (!path.ends_with(".enabled") || key.support->kind != KeySupport::live) continue;
        for (const char* section : {"progressive_layer_drop.", "curriculum_learning.", "data_efficiency.", "compression_training."})
            if (path.starts_with(section)) set_path(config, path, true);
    }
    return config;
}

}  // namespace

TEST_CASE("keys/every_row_is_sound") {
    std::vector<std::string> seen;
    for (const Key& key : config_keys()) {
        const std::string path = key.path;
        CAPTURE(path);
        CHECK(std::find(seen.begin(), seen.end(), path) == seen.end());
        seen.push_back(path);
        CHECK(std::string(key.meaning).size() > 1);
        Json standard = key.default_value();
        if (!standard.is_null()) CHECK(check_value(key, path, false, standard).ok());
        if (const size_t dot = path.rfind('.'); dot != path.npos && !key.in_list()) {
            const Key* section = find_key(path.substr(0, dot));
            REQUIRE(section);
            CHECK(section->is_section());
            CHECK(std::find(seen.begin(), seen.end(), path.substr(0, dot)) != seen.end());
        }
    }
    for (const Spelling& spelling : config_spellings()) {
        CAPTURE(spelling.older);
        CHECK(!find_key(spelling.older));
        CHECK((find_key(spelling.path) || std::string(spelling.path) == "logger.default_verbosity"));
    }
    CHECK(seen.size() > 300);
}

TEST_CASE("keys/all_are_described_with_type_default_and_meaning") {
    const auto described = parse_json(describe_config(), "describe");
    REQUIRE(described.ok());
    for (const Key& key : config_keys()) {
        REQUIRE(described.value().contains(key.path));
        const Json& row = described.value()[key.path];
        for (const char* part : {"type", "default", "accepted", "status", "meaning"}) CHECK(row.contains(part));
        CHECK(row["default"] == key.default_value());
    }
    CHECK(described.value()["training_batch_size"]["spelling_of"] == "train_batch_size");
    CHECK(described.value()["fp16.loss_scale_window"]["default"] == 1000);
}

TEST_CASE("keys/none_is_silently_ignored") {
    Json base = {{"train_micro_batch_size_per_gpu", 2},
                 {"optimizer", {{"type", "AdamW"}}},
                 {"scheduler", {{"type", "WarmupLR"}}},
                 {"bf16", {{"enabled", true}}}};
    const Config switched = good(with_live_switches(base).dump());
    for (const Key& key : config_keys()) {
        const std::string path = key.path;
        CAPTURE(path);
        const bool switches =
            key.support->kind == KeySupport::live && gated(path + ".") && !path.starts_with("fp16") && !path.starts_with("bf16");
        const Config before = good(with_companions(switches ? with_live_switches(base) : base, path).dump());
        const bool section_is_a_choice = key.is_section() && std::string(key.fallback) == "null";
        if ((key.is_section() && !section_is_a_choice) || key.in_list() || path == "optimizer" || path == "scheduler" || path == "strict" ||
            path == "elasticity.ignore_non_elastic_batch_info")  // unit/elasticity.cpp
            continue;
        Json flipped = with_companions(switches ? with_live_switches(base) : base, path);
        Json value = section_is_a_choice ? Json::object() : another_value(key);
        if (switches && value == true && at_path(switched.effective, path) && *at_path(switched.effective, path) == true) value = false;
        const bool one_choice = key.rule->choices && std::string_view(key.rule->choices).find('|') == std::string_view::npos;
        REQUIRE((!value.is_null() || one_choice || std::string(key.support->name) == "unsupported"));
        if (value.is_null()) continue;
        set_path(flipped, path, value);
        const auto after = parse_config(flipped.dump());
        if (!after.ok()) {
            CAPTURE(after.status().message());
            // The key is named, or the section that its presence turns on.
            const std::string message = after.status().message(), section = path.substr(0, path.rfind('.'));
            CHECK((message.find(path.substr(path.rfind('.') + 1)) != std::string::npos ||
                   message.find(section + ": not supported") != std::string::npos));
            continue;
        }
        const Json* effective = at_path(after.value().effective, path);
        REQUIRE(effective);
        if (section_is_a_choice) CHECK(effective->is_object());  // with its defaults
        else CHECK(*effective == value);
        if (key.support->kind == KeySupport::live || key.support->kind == KeySupport::runtime)
            CHECK(fingerprint(after.value()) != fingerprint(before));
        if (key.support->kind == KeySupport::missing) CHECK(gated(path));
        if (key.support->kind == KeySupport::hint && !gated(path)) {
            REQUIRE(!after.value().notes.empty());
            CHECK(after.value().notes.back().find(path) != std::string::npos);
        }
    }
}

TEST_CASE("keys/a_key_under_a_switch_that_is_on_is_refused") {
    CHECK(lacks(R"("flops_profiler": {"enabled": true})") ==
          "config: flops_profiler.enabled: true is not supported, only false (FLOPs by module)");
    CHECK(with(R"("flops_profiler": {"enabled": false, "profile_step": 5})").effective["flops_profiler"]["profile_step"] == 5);
    CHECK(with(R"("sparse_attention": {})").sparse_attention.mode == "fixed");
    CHECK(with(R"("seed": 1)").sparse_attention.mode == "dense");
    CHECK(with(R"("sparse_attention": {"mode": "dense", "block": 32})").effective["sparse_attention"]["block"] == 32);
    CHECK(with(R"("zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "disk"}})").zero_stage == 3);
    CHECK(lacks(R"("distributed": "nccl")") == "config: distributed: nccl is not supported, only auto, none, gloo, mpi and host");
    CHECK(lacks(R"("compression_training": {"channel_pruning": {"shared_parameters": {"enabled": true}}})")
              .ends_with("channel_pruning.shared_parameters.enabled: true is not supported, only false (channels of convolutions to zero: "
                         "no model here has any)"));
    with(
        R"("compression_training": {"channel_pruning": {"shared_parameters": {"enabled": false}, "different_groups": {"a": {"params": {}}}}})");
}

TEST_CASE("text/comments_blanks_and_paths_are_accepted") {
    CHECK(good(" \n// first\n/* second */ {\"train_batch_size\": 8, /* why */ \"seed\": 3 // end\n}").seed == 3);
    CHECK(good("\xef\xbb\xbf{\"train_batch_size\": 8}").batch.train == 8);
    const auto path = std::filesystem::temp_directory_path() / "dsrt_unit_config.json";
    std::ofstream(path) << "// a file\n{\"train_batch_size\": 8, \"optimiser\": 1}";
    CHECK(refused(path.string()) == "config: optimiser: unknown key; did you mean optimizer?");
    std::ofstream(path) << "{\"train_batch_size\": 8, }";
    CHECK(refused(path.string()).starts_with(path.string() + ": parse error at line 1, column"));
    std::ofstream(path) << "[1]";
    CHECK(refused(path.string()) == path.string() + ": must be an object, is [1]");
    std::filesystem::remove(path);
    CHECK(refused(path.string(), Code::E_NOT_FOUND).starts_with("config: " + path.string()));
    CHECK(refused("  // nothing\n") == "config: empty; must be JSON text that begins with {, or the path of a JSON file");
    CHECK(refused("{\"seed\": 1, \"seed\": 2}") == "config: key \"seed\" appears twice in one object");
    refused("{\"seed\": 1e999}");
    refused("{\"seed\": inf}");
    refused("{" + std::string(5000, 'x'));
}

TEST_CASE("text/the_environment_gives_text_or_path_and_dsrts_wins") {
    ::unsetenv("DSRT_CONFIG");
    ::unsetenv("DEEPSPEED_CONFIG");
    CHECK(config_from_environment().status().message() == "config: NULL, and neither DSRT_CONFIG nor DEEPSPEED_CONFIG holds one");
    ::setenv("DEEPSPEED_CONFIG", "{\"train_batch_size\": 3}", 1);
    CHECK(config_from_environment().value().batch.train == 3);
    ::setenv("DSRT_CONFIG", "{\"train_batch_size\": 5}", 1);
    CHECK(config_from_environment().value().batch.train == 5);
    ::setenv("DSRT_CONFIG", "{\"train_batch_sise\": 5}", 1);
    CHECK(config_from_environment().status().message() ==
          "DSRT_CONFIG: config: train_batch_sise: unknown key; did you mean train_batch_size?");
    ::unsetenv("DSRT_CONFIG");
    ::unsetenv("DEEPSPEED_CONFIG");
}

TEST_CASE("unknown_key/is_an_error_that_names_the_nearest") {
    CHECK(bad(R"("optimizer": {"type": "AdamW", "parms": {"lr": 1}})") ==
          "config: optimizer.parms: unknown key; did you mean optimizer.params?");
    CHECK(bad(R"("trainig_batch_size": 4)") == "config: trainig_batch_size: unknown key; did you mean training_batch_size?");
    CHECK(bad(R"("zero_optimization": {"stag": 1})") ==
          "config: zero_optimization.stag: unknown key; did you mean zero_optimization.stage?");
    CHECK(bad(R"("loss_scale_window": 4)") == "config: loss_scale_window: unknown key; did you mean fp16.loss_scale_window?");
    CHECK(bad(R"("param_groups": [{"match": "a"}, {"mach": "b"}])") ==
          "config: param_groups[1].mach: unknown key; did you mean param_groups[1].match?");
    CHECK(bad(R"("param_groups": [{"match": ["*"], "learning_rate": 0}])").find("did you mean param_groups[0].") != std::string::npos);
    CHECK(bad(R"("fp16": {"enabeld": true})") == "config: fp16.enabeld: unknown key; did you mean fp16.enabled?");
    CHECK(bad(R"("logger": {"fp16": "LOUD"})") ==
          "config: logger: must be an object of component: one of TRACE, DEBUG, INFO, WARN, ERROR, OFF, is {\"fp16\":\"LOUD\"}");
}

TEST_CASE("unknown_key/comments_are_none") {
    const Config config =
        with(R"("_comment": "tuned by hand", "//": 1, "optimizer": {"type": "AdamW", "//lr": "as in the paper", "_comment2": []})");
    CHECK(config.warnings.empty());
    CHECK(!config.effective.contains("_comment"));
    CHECK(bad(R"("_optimizer": {})") == "config: _optimizer: unknown key; did you mean optimizer?");
}

TEST_CASE("unknown_key/is_a_warning_without_strict") {
    const Config config = with(R"("strict": false, "optimizer": {"type": "AdamW", "parms": 1}, "zzz": 1)");
    REQUIRE(config.warnings.size() == 2);
    CHECK(config.warnings[0] == "config: optimizer.parms: unknown key; did you mean optimizer.params?");
    CHECK(!config.effective.contains("zzz"));
    CHECK(bad(R"("strict": 1, "zzz": 1)").find("zzz") == std::string::npos);
}

TEST_CASE("value/types_and_ranges_are_checked_and_said") {
    CHECK(bad(R"("seed": "one")") == "config: seed: must be an integer of at least 0, is \"one\"");
    CHECK(bad(R"("seed": -1)") == "config: seed: must be an integer of at least 0, is -1");
    CHECK(bad(R"("seed": 1.5)") == "config: seed: must be an integer of at least 0, is 1.5");
    CHECK(bad(R"("seed": true)") == "config: seed: must be an integer of at least 0, is true");
    CHECK(bad(R"("zero_optimization": {"stage": 4})") == "config: zero_optimization.stage: must be an integer from 0 to 3, is 4");
    CHECK(bad(R"("loss_normalization": "token")") == "config: loss_normalization: must be one of batch, micro_batch, ranks, is \"token\"");
    CHECK(bad(R"("checkpoint": {"tag_validation": "foo"})") ==
          "config: checkpoint.tag_validation: must be one of WARN, IGNORE, FAIL, is \"foo\"");
    CHECK(bad(R"("gradient_allreduce_op": "max")") == "config: gradient_allreduce_op: must be one of mean, sum, is \"max\"");
    CHECK(bad(R"("fp16": 3)") == "config: fp16: must be an object, is 3");
    CHECK(bad(R"("data_types": {"grad_accum_dtype": "f64"})") ==
          "config: data_types.grad_accum_dtype: must be one of fp32, fp16, bf16, or null, is \"f64\"");
    CHECK(bad(R"("zero_optimization": {"allgather_bucket_size": 1001})") ==
          "config: zero_optimization.allgather_bucket_size: must be an integer that is even and not negative, is 1001");
    with(R"("zero_optimization": {"allgather_bucket_size": 1000})");
    CHECK(with(R"("gradient_allreduce_op": "SUM")").effective["gradient_allreduce_op"] == "sum");
    CHECK(with(R"("zero_optimization": {"reduce_bucket_size": 2e8})").effective["zero_optimization"]["reduce_bucket_size"] == 200000000);
    CHECK(bad("\"outputs\": [\"" + std::string(300, 'x') + "\", 1]").size() < 200);
}

TEST_CASE("value/loss_scale_rejects_and_accepts_as_deepspeed") {
    for (const char* value : {"-1", "true", "[]", "{}", "\"inf\"", "\"nan\"", "null"})
        bad(std::string(R"("fp16": {"enabled": true, "loss_scale": )") + value + "}");
    CHECK(with(R"("fp16": {"loss_scale": 0})").fp16.static_scale == 0);
    CHECK(with(R"("fp16": {"loss_scale": 1})").fp16.static_scale == 1);
    CHECK(with(R"("fp16": {"loss_scale": 2.0})").fp16.static_scale == 2);
    CHECK(with(R"("fp16": {"loss_scale": "3"})").fp16.static_scale == 3);
}

TEST_CASE("value/dynamic_scale_settings_count_only_where_they_are_used") {
    for (const char* key : {"loss_scale_window", "min_loss_scale"}) {
        for (const char* value : {"0", "-1"}) {
            const std::string pair = std::string("\"") + key + "\": " + value;
            CHECK(bad("\"fp16\": {\"enabled\": true, " + pair + "}")
                      .starts_with(std::string("config: fp16.") + key + ": must be above 0 with a dynamic loss scale, is"));
            with("\"fp16\": {\"enabled\": false, " + pair + "}");
            with("\"fp16\": {\"enabled\": true, \"loss_scale\": 8, " + pair + "}");
        }
        for (const char* value : {"true", "\"inf\"", "\"abc\"", "null"}) bad(std::string("\"fp16\": {\"") + key + "\": " + value + "}");
    }
}

TEST_CASE("value/auto_means_absent_in_strict_sections_only") {
    CHECK(with(R"("fp16": {"enabled": "auto", "loss_scale": "auto"})").precision == PrecisionMode::f32);
    CHECK(with(R"("zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"})").effective["zero_optimization"]["reduce_bucket_size"] ==
          500000000);
    CHECK(bad(R"("train_batch_size": "auto")")
              .ends_with(R"(is "auto" (Hugging Face's Trainer fills in "auto"; give a value, or leave the key out))"));
    CHECK(
        refused(
            R"({"gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}, "train_batch_size": "auto"})")
            .ends_with(R"(leave the key out); so are gradient_clipping, train_batch_size)"));
    bad(R"("optimizer": {"type": "AdamW", "params": "auto"})");
    // Of an optimizer's parameters it means the default; of the rate that is not what the Trainer would have filled in.
    CHECK(with(R"("optimizer": {"type": "AdamW", "params": {"betas": "auto", "weight_decay": "auto"}})").warnings.empty());
    CHECK(with(R"("optimizer": {"type": "AdamW", "params": {"lr": "auto"}})").warnings.size() == 1);
}

TEST_CASE("spelling/older_forms_map_to_the_canonical_keys") {
    const Config article = good(
        R"({"training_batch_size": 512, "steps_per_epoch": 1000, "max_seq_length": 128, "optimizer": "AdamW", "optimizer_params": {"lr": 5e-5},
        "fp16": true, "pipeline": {"stages": 1, "active_stages": 2}, "gradient_accumulation_steps": 4, "logger": {"default_verbosity": "INFO", "fp16": "DEBUG"}})");
    CHECK(article.batch.train == 512);
    CHECK(article.batch.micro == 128);
    CHECK(article.optimizer.type == "AdamW");
    CHECK(article.optimizer.params["lr"] == 5e-5);
    CHECK(article.precision == PrecisionMode::f16);
    CHECK(article.max_seq_length == 128);
    CHECK(article.steps_per_epoch == 1000);
    CHECK(article.log_levels == std::map<std::string, int>{{"", 2}, {"fp16", 1}});
    CHECK(get(article, "training_batch_size").value() == 512);
    CHECK(get(article, "optimizer_params.lr").value() == 5e-5);
    CHECK(with(R"("bfloat16": {"enabled": true})").precision == PrecisionMode::bf16);
    CHECK(with(R"("bf16": true)").precision == PrecisionMode::bf16);
    CHECK(with(R"("zero_optimization": true)").zero_stage == 1);
    CHECK(with(R"("log_level": "error")").log_levels.at("") == 4);
    CHECK(with(R"("aio": {"block_size": 262144, "queue_depth": 32, "thread_count": 4, "single_submit": false, "overlap_events": true})")
              .zero.disk_threads == 4);
    for (const char* key : {"prefetch_bucket_size", "param_persistence_threshold", "model_persistence_threshold", "max_live_parameters",
                            "max_reuse_distance"})
        CHECK(with(fmt::format(R"("zero_optimization": {{"stage3_{}": 12345}})", key)).effective["zero_optimization"][key] == 12345);
    CHECK(with(R"("zero_optimization": {"stage": 2, "cpu_offload": true})").effective["zero_optimization"]["offload_optimizer"]["device"] ==
          "cpu");
    CHECK(
        with(R"("zero_optimization": {"stage": 3, "cpu_offload_param": true})").effective["zero_optimization"]["offload_param"]["device"] ==
        "cpu");
}

TEST_CASE("spelling/both_forms_at_once_are_an_error") {
    CHECK(refused(R"({"training_batch_size": 4, "train_batch_size": 4})") ==
          "config: training_batch_size: an older spelling of train_batch_size, which is given too; keep one");
    CHECK(bad(R"("optimizer": {"type": "SGD", "params": {}}, "optimizer_params": {})") ==
          "config: optimizer_params: an older spelling of optimizer.params, which is given too; keep one");
    bad(R"("bf16": true, "bfloat16": {"enabled": true})");
    bad(R"("zero_optimization": {"cpu_offload": true, "offload_optimizer": {"device": "cpu"}})");
    bad(R"("zero_optimization": {"stage3_max_live_parameters": 1, "max_live_parameters": 1})");
    CHECK(bad(R"("optimizer_params": {"lr": 1})") == "config: optimizer.type: must name the optimizer, where optimizer_params is given");
    CHECK(bad(R"("bfloat16": {"enabled": 7})") == "config: bfloat16.enabled: must be true or false, is 7");
    CHECK(bad(R"("zero_optimization": {"cpu_offload": 3})") == "config: zero_optimization.cpu_offload: must be true or false, is 3");
}

TEST_CASE("batch/any_sufficient_subset_resolves") {
    using N = std::optional<int64_t>;
    for (const auto& [tb, mb, gas] : {std::array<int64_t, 3>{32, 16, 1}, {32, 8, 2}}) {
        for (const auto& given : {std::array<N, 3>{tb, mb, gas}, {tb, mb, N{}}, {tb, N{}, gas}, {N{}, mb, gas}}) {
            const auto sizes = resolve_batch(given[0], given[1], given[2], 2);
            REQUIRE(sizes.ok());
            CHECK(sizes.value().train == tb);
            CHECK(sizes.value().micro == mb);
            CHECK(sizes.value().accumulation == gas);
        }
    }
    CHECK(resolve_batch(32, {}, {}, 2).value().micro == 16);
    CHECK(resolve_batch({}, 8, {}, 2).value().train == 16);
}

TEST_CASE("batch/what_does_not_fit_prints_the_four_numbers") {
    CHECK(!resolve_batch(33, 17, 2, 2).ok());
    CHECK(!resolve_batch(32, 18, 1, 2).ok());
    CHECK(refused(R"({"train_batch_size": 33, "train_micro_batch_size_per_gpu": 17, "gradient_accumulation_steps": 2})") ==
          "config: train_batch_size: 33 must equal train_micro_batch_size_per_gpu 17 x gradient_accumulation_steps 2 x data-parallel ranks "
          "1, which is 34");
    CHECK(refused(R"({"train_batch_size": 2, "train_micro_batch_size_per_gpu": 4})") ==
          "config: train_batch_size: 2 must equal train_micro_batch_size_per_gpu 4 x gradient_accumulation_steps 0 x data-parallel ranks "
          "1, which is 0");
    CHECK(
        refused(R"({"gradient_accumulation_steps": 2})") ==
        "config: train_batch_size: it or train_micro_batch_size_per_gpu must be given; gradient_accumulation_steps alone says too little");
    CHECK(refused(R"({"optimizer": {"type": "SGD"}})") ==
          "config: train_batch_size: it or train_micro_batch_size_per_gpu must be given, as the config has an optimizer");
    CHECK(good("{}").batch.micro == 1);  // evaluation and generation
    CHECK(good("{}").batch.train == 1);
    CHECK(refused(R"({"train_batch_size": 0})") == "config: train_batch_size: must be an integer above 0, or null, is 0");
    refused(R"({"train_micro_batch_size_per_gpu": 9000000000000000000, "gradient_accumulation_steps": 9})");
}

TEST_CASE("mesh/arithmetic_comes_before_support") {
    CHECK(bad(R"("parallel": {"tensor": 2, "pipeline": 2, "data": 1, "local_ranks": 3})") ==
          "parallel: tensor 2 x pipeline 2 x data 1 needs 4 ranks, local_ranks is 3");
    CHECK(bad(R"("parallel": {"tensor": 2, "pipeline": 2, "local_ranks": 3})") ==
          "parallel: tensor 2 x pipeline 2 x data 1 needs 4 ranks, local_ranks is 3");
    CHECK(bad(R"("parallel": {"sequence": 2, "data": 3, "expert": 2})") == "parallel: expert 2 must divide data 3");
    CHECK(refused(R"({"train_batch_size": 3, "parallel": {"data": 2}})").find("data-parallel ranks 2, which is 2") != std::string::npos);
    CHECK(with(R"("parallel": {"tensor": 2})").mesh.tensor == 2);
    const Config pipeline = with(R"("pipeline": {"stages": 2, "active_stages": 3, "schedule": "ZB-H1", "partition_method": "type:block"})");
    CHECK(pipeline.mesh.pipeline == 2);
    CHECK(pipeline.mesh.local_ranks == 2);
    CHECK(pipeline.pipeline.active == 3);
    CHECK(pipeline.pipeline.schedule == "zb-h1");
    CHECK(pipeline.pipeline.partition == "type:block");
    CHECK(with(R"("pipeline": {"stages": "auto", "active_stages": "auto"})").pipeline.active == 0);
    CHECK(bad(R"("pipeline": {"schedule": "2f2b"})").find("1f1b") != std::string::npos);
    CHECK(bad(R"("pipeline": {"active_stages": 0})").find("above 0") != std::string::npos);
    CHECK(bad(R"("pipeline": {"partition": "type:"})").find("best, cost, uniform, parameters or type:REGEX") != std::string::npos);
    CHECK(with(R"("parallel": {"local_ranks": 4})").mesh.data == 4);
    CHECK(with(R"("sequence_parallel_size": 2)").mesh.sequence == 2);
    CHECK(with(R"("tensor_parallel": {"autotp_size": 3})").mesh.tensor == 3);
    CHECK(with(R"("tensor_parallel": {"autotp_size": 0, "tp": {"tp_size": 2}})").mesh.tensor == 2);
    CHECK(bad(R"("tensor_parallel": {"autotp_size": 2}, "parallel": {"tensor": 2})") ==
          "config: tensor_parallel.autotp_size: an older spelling of parallel.tensor, which is given too; keep one");
    CHECK(bad(R"("tensor_parallel": {"autotp_size": -1})") == "config: tensor_parallel.autotp_size: must be an integer above 0, is -1");
    CHECK(with(R"("expert_parallel": {"enabled": true, "autoep_size": 2}, "parallel": {"data": 4})").mesh.expert == 2);
    CHECK(with(R"("expert_parallel": {"autoep_size": 2}, "parallel": {"data": 4})").mesh.expert == 1);
    CHECK(bad(R"("zero_optimization": {"stage": 2}, "parallel": {"pipeline": 2})") ==
          "config: parallel.pipeline: 2 stages exclude zero_optimization.stage 2");
    CHECK(with(R"("parallel": "auto")").mesh.local_ranks == 1);
    CHECK(with(R"("parallel": {"data": 1, "local_ranks": 1})").mesh.data == 1);
    CHECK(resolve_mesh({2, 1, 1, 2, 1, 1}, {}, 8).value().data == 2);
    // Several processes: data ranks are what is left, and every process has as many ranks as the others.
    CHECK(resolve_mesh({1, 1, 1, 1, 1, 1}, {}, {}, 3).value().data == 3);
    CHECK(resolve_mesh({2, 1, 1, 1, 1, 1}, {}, {}, 4).value().data == 2);
    CHECK(resolve_mesh({4, 1, 1, 1, 1, 1}, {}, {}, 2).value().local_ranks == 2);
    CHECK(resolve_mesh({2, 1, 1, 1, 1, 1}, {}, 4, 2).value().data == 4);
    CHECK(resolve_mesh({1, 1, 1, 1, 1, 1}, 6, {}, 2).value().local_ranks == 3);
    CHECK(resolve_mesh({2, 1, 1, 1, 1, 1}, {}, {}, 3).status().message() ==
          "parallel: tensor 2 x pipeline 1 x data 1 needs 2 ranks, there are 3 processes and local_ranks is 1");
    Launched two{2, {}}, unclear{1, fail(Code::E_CONFIG, "RANK: must be a number")};
    CHECK(parse_config("{\"train_batch_size\": 4}", two).value().batch.micro == 2);
    CHECK(parse_config("{\"train_batch_size\": 4, \"distributed\": \"none\"}", two).value().batch.micro == 4);
    CHECK(parse_config("{}", unclear).status().message() == "config: distributed: RANK: must be a number");
    CHECK(parse_config("{\"distributed\": \"none\"}", unclear).ok());
}

TEST_CASE("clipping/is_one_by_default_and_takes_three_forms") {
    CHECK(good(R"({"train_batch_size": 1})").clipping.norm == 1.0);
    CHECK(with(R"("gradient_clipping": 0.5)").clipping.norm == 0.5);
    CHECK(with(R"("gradient_clipping": 0)").clipping.norm == 0);
    CHECK(with(R"("gradient_clipping": {"norm": 2})").clipping.norm == 2);
    const Clipping by_value = with(R"("gradient_clipping": {"value": 0.25})").clipping;
    CHECK(by_value.value == 0.25);
    CHECK(by_value.norm == 0);
    for (const char* form : {"-1", "\"x\"", "{}", "{\"norm\": 1, \"value\": 1}", "{\"limit\": 1}", "true", "null"})
        bad(std::string("\"gradient_clipping\": ") + form);
    CHECK(bad(R"("optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1}})") ==
          "config: optimizer.params.max_grad_norm: not an optimizer's; use gradient_clipping");
}

TEST_CASE("precision/modes_exclude_each_other_and_rules_are_kept_in_order") {
    CHECK(bad(R"("fp16": true, "bf16": true)") == "config: fp16: excludes bf16; keep one");
    CHECK(
        bad(R"("bf16": true, "data_types": {"param_dtype": "fp16"})").starts_with("config: data_types.param_dtype: \"fp16\" contradicts"));
    CHECK(with(R"("bf16": true)").skip_on_overflow);
    CHECK(!with(R"("bf16": {"enabled": true, "check_grad_overflow": false})").skip_on_overflow);
    const auto rules =
        with(R"("precision": [{"match": ["lm_head*", "a"], "dtype": "fp32"}, {"match": "*", "dtype": "bfloat16"}])").precision_rules;
    REQUIRE(rules.size() == 3);
    CHECK(rules[1].pattern == "a");
    CHECK(rules[2].dtype == DType::bf16);
    CHECK(with(R"("precision": {"*": "bf16", "lm_head*": "f32"})").precision_rules[0].pattern == "lm_head*");
    bad(R"("precision": [{"match": "a"}])");
    bad(R"("precision": {"a": "f64"})");
}

TEST_CASE("zero/stages_and_their_dependent_keys") {
    for (int stage = 0; stage < 4; ++stage)
        CHECK(with(fmt::format(R"("zero_optimization": {{"stage": {}}})", stage)).effective["zero_optimization"]["overlap_comm"] ==
              (stage == 3));
    bad(R"("zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}})");
    bad(R"("zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}})");
    bad(R"("zero_optimization": {"stage": 3}, "gradient_allreduce_op": "sum")");
    bad(R"("zero_optimization": {"zenflow": {}}, "gradient_allreduce_op": "sum")");
    bad(R"("compile": {"deepcompile": true}, "gradient_allreduce_op": "sum")");
    CHECK(bad(R"("zero_optimization": {"legacy_stage1": true})") ==
          "config: zero_optimization.legacy_stage1: must be false (DeepSpeed withdrew it), is true");
}

TEST_CASE("param_groups/are_typed_and_keep_their_settings") {
    const auto groups =
        with(
            R"("param_groups": [{"name": "head", "match": ["cls*", "*.bias"], "lr": 1e-3, "weight_decay": 0}, {"match": "*", "frozen": true}])")
            .param_groups;
    REQUIRE(groups.size() == 2);
    CHECK(groups[0].match == std::vector<std::string>{"cls*", "*.bias"});
    CHECK(groups[0].settings == Json{{"lr", 1e-3}, {"weight_decay", 0}});
    CHECK(groups[1].frozen);
    CHECK(bad(R"("param_groups": [{"lr": 1}])") == "config: param_groups[0].match: needed; a glob or an array of globs");
    CHECK(bad(R"("param_groups": [3])") == "config: param_groups[0]: must be an object, is 3");
    CHECK(bad(R"("param_groups": [{"match": "a", "lr": -1}])") ==
          "config: param_groups[0].lr: must be a number of at least 0, or null, is -1");
}

TEST_CASE("data/dataloader_drop_last_reaches_the_data_options") {
    CHECK(with(R"("dataloader_drop_last": true, "data": {"files": "x.csv"})").data == Json{{"files", "x.csv"}, {"drop_last", true}});
    CHECK(with(R"("dataloader_drop_last": true, "data": {"drop_last": false})").data["drop_last"] == false);
}

TEST_CASE("get/answers_effective_values_by_any_spelling") {
    const Config config = with(R"("optimizer": {"type": "AdamW", "params": {"lr": 0.5}}, "gradient_accumulation_steps": 3)");
    CHECK(get(config, "train_batch_size").value() == 6);
    CHECK(get(config, "fp16.loss_scale_window").value() == 1000);
    CHECK(get(config, "optimizer.params.lr").value() == 0.5);
    CHECK(get(config, "zero_optimization.stage3_max_live_parameters").value() == 1000000000);
    CHECK(get(config, "scheduler.type").value().is_null());
    CHECK(get(config, "").value()["optimizer"]["type"] == "AdamW");
    CHECK(get(config, "seeds").status().message() == "config: seeds: unknown key; did you mean seed?");
    CHECK(get(config, "optimizer.params.eps").status().code() == Code::E_NOT_FOUND);
}

TEST_CASE("set/changes_what_can_change_and_nothing_else") {
    Config config = with(R"("optimizer": "AdamW", "optimizer_params": {"lr": 0.5})");
    REQUIRE(set(config, "optimizer.params.lr", 0.25).ok());
    CHECK(config.optimizer.params["lr"] == 0.25);
    CHECK(get(config, "optimizer.params.lr").value() == 0.25);
    REQUIRE(set(config, "gradient_clipping", {{"value", 2}}).ok());
    CHECK(config.clipping.value == 2);
    REQUIRE(set(config, "scheduler", {{"type", "StepLR"}, {"params", {{"step_size", 3}}}}).ok());
    CHECK(config.scheduler.type == "StepLR");
    REQUIRE(set(config, "scheduler.params.step_size", 4).ok());
    CHECK(config.scheduler.params["step_size"] == 4);
    REQUIRE(set(config, "scheduler", Json()).ok());
    CHECK(config.scheduler.type.empty());
    REQUIRE(set(config, "steps_per_print", 10).ok());
    REQUIRE(set(config, "log_level", "DEBUG").ok());
    CHECK(config.log_levels.at("") == 1);
    const std::string before = config.effective.dump();
    CHECK(set(config, "gradient_clipping", -1).code() == Code::E_CONFIG);
    CHECK(set(config, "optimizer.params.lr", "fast").message() ==
          "config: optimizer.params.lr: must be a number of at least 0, is \"fast\"");
    CHECK(set(config, "seed", 3).code() == Code::E_UNSUPPORTED);
    CHECK(set(config, "optimizer.type", "SGD").code() == Code::E_UNSUPPORTED);
    CHECK(set(config, "train_batch_size", 3)
              .message()
              .starts_with("config: train_batch_size: can't change at run time; what can: optimizer.params, lora.adapter, scheduler"));
    CHECK(set(config, "optimizer.parms.lr", 3).code() == Code::E_CONFIG);
    CHECK(config.effective.dump() == before);
}

TEST_CASE("scheduler/the_meaning_lists_every_type_that_exists") {
    std::string meaning = find_key("scheduler.type")->meaning;
    for (const std::string& type : schedule_types()) CHECK(meaning.find(type) != std::string::npos);
}
