// LoRA over a base in few bits (QLoRA) through the ABI: an engine with a quantised base computes what an engine computes whose base was set
// to the values that the codes mean; only adapters move; checkpoints, exports, layouts and generation work; and what a 7B-shaped model
// would take is below 8 GiB.
#include <dsrt/dsrt.h>

#include <cstring>
#include <filesystem>
#include <tuple>

#include "base/file.h"
#include "base/json.h"
#include "ckpt/safetensors.h"
#include "support/golden_batch.h"

namespace {

using ds::Json;
using training::check, training::Engine, training::Folder, training::must, training::numbers, training::Numbers;

const std::string kModels = std::string(DSRT_TEST_DATA) + "/models/";

void close(const Numbers& found, const Numbers& exact, double bound, const std::string& what) {
    const double d = training::distance(found, exact, 1e-7);
    check(d <= bound, what + ": " + std::to_string(d * 1e6) + "e-6 off");
}

using Batch = training::GoldenBatch;

const Json kFour = {{"load_in_4bit", true}}, kDouble = {{"load_in_4bit", true}, {"bnb_4bit_use_double_quant", true}},
           kEight = {{"load_in_8bit", true}}, kSixteen = {{"load_in_16bit", true}}, kLow = {{"bf16", {{"enabled", true}}}};

Json config_of(const std::string& model, const Json& quantization, Json more = Json::object()) {
    Json config = {{"model", kModels + model},
                   {"train_micro_batch_size_per_gpu", 2},
                   {"gradient_clipping", 0},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}, {"eps", 1e-5}, {"weight_decay", 0}}}}},
                   {"lora", {{"r", 4}, {"target_modules", "all-linear"}}}};
    if (!quantization.is_null()) config["quantization"] = quantization;
    config.update(more);
    return config;
}

// Everything that `from` has.
void copy_weights(const Engine& from, const Engine& to) {
    for (const std::string& name : from.names()) {
        ds_tensor* t = nullptr;
        must(ds_param_get(from.e, name.c_str(), DS_WEIGHT, &t), name);
        must(ds_param_set(to.e, name.c_str(), DS_WEIGHT, t), name);
        ds_tensor_destroy(t);
    }
}

void equals_its_decoded_base(const std::string& model, const Json& quantization, const Json& more, double bound) {
    const std::string what = model + " " + quantization.dump() + more.dump();
    const Batch batch(model);
    const Engine coded(config_of(model, quantization, more)), plain(config_of(model, Json(), more));
    const double original = plain.eval(batch.b);
    copy_weights(coded, plain);
    close({coded.eval(batch.b)}, {plain.eval(batch.b)}, bound, what + " loss");
    check(coded.eval(batch.b) != original, what + ": few bits change the loss");
    float loss = 0;
    for (const Engine* engine : {&coded, &plain})
        must(ds_forward(engine->e, batch.b, &loss), "forward"), must(ds_backward(engine->e), "backward");
    const std::vector<std::string> trained = coded.names(true);
    check(!trained.empty() && trained == plain.names(true), what + ": the same parameters are trained");
    for (const std::string& name : trained) {
        check(name.find(".lora_") != name.npos, what + ": only adapters are trained, not " + name);
        close(coded.param(name, DS_GRAD), plain.param(name, DS_GRAD), 10 * bound, what + " gradient of " + name);
    }
    for (const Engine* engine : {&coded, &plain}) must(ds_step(engine->e), "step");
    for (int i = 0; i < 2; ++i) close({coded.step(batch.b)}, {plain.step(batch.b)}, 10 * bound, what + " step");
}

// A weight as its codes have it differs from the model's by what so many bits allow.
void bits_are_what_they_cost() {
    const Engine plain(config_of("llama", Json())), four(config_of("llama", kFour)), twice(config_of("llama", kDouble)),
        eight(config_of("llama", kEight));
    const std::string name = "model.layers.0.mlp.up_proj.weight";
    const auto off = [&](const Engine& e) { return training::distance(e.param(name), plain.param(name), 1e-7); };
    check(off(eight) > 1e-3 && off(eight) < 0.01, "8 bits: " + std::to_string(off(eight)));
    check(off(four) > 0.05 && off(four) < 0.12, "4 bits: " + std::to_string(off(four)));
    check(off(twice) > 0.05 && off(twice) < 0.13 && off(twice) != off(four), "4 bits, two levels: " + std::to_string(off(twice)));
    close(four.param("lm_head.weight"), plain.param("lm_head.weight"), 0, "the head stays");
    close(four.param("model.embed_tokens.weight"), plain.param("model.embed_tokens.weight"), 0, "the table stays");
    ds_tensor* t = nullptr;  // what is set is coded, and codes keep what they mean
    must(ds_param_get(four.e, name.c_str(), DS_WEIGHT, &t), name);
    must(ds_param_set(four.e, name.c_str(), DS_WEIGHT, t), name);
    close(four.param(name), numbers(t), 0, "a decoded weight is coded as before");
}

void learns_and_resumes() {
    for (const Json& more : {Json::object(), Json{{"bf16", {{"enabled", true}}}}}) {
        const Batch batch("llama");
        const Json config = config_of("llama", kDouble, more);
        const Engine engine(config);
        const std::string base = "model.layers.1.self_attn.q_proj.weight";
        const Numbers before = engine.param(base);
        const double first = engine.eval(batch.b);
        for (int i = 0; i < 20; ++i) (void)engine.step(batch.b);
        check(engine.eval(batch.b) < first - 0.3,
              "an adapter on a base in few bits learns: " + std::to_string(first) + " to " + std::to_string(engine.eval(batch.b)));
        check(engine.param(base) == before, "the base stays");
        Folder folder;
        const std::string saved = folder.path / "saved";
        must(ds_save(engine.e, saved.c_str(), nullptr, nullptr), "save");
        const Engine again(config);
        must(ds_load(again.e, saved.c_str(), nullptr, nullptr), "load");
        for (int i = 0; i < 3; ++i) {
            const double here = engine.step(batch.b), there = again.step(batch.b);
            check(here == there, "resume is bit-equal: " + std::to_string(here) + " and " + std::to_string(there));
        }
        const auto file = ds::SafetensorsFile::open(saved + "/global_step20/weights.safetensors");
        check(file.ok() && !file->find(base) && file->find("model.norm.weight"), "a checkpoint has no base in few bits, and what is whole");
        const auto refuses = [&](const Json& quantization, const std::string& words) {
            const Engine other(config_of("llama", quantization, more));
            check(ds_load(other.e, saved.c_str(), nullptr, nullptr) == DS_E_STATE && std::strstr(ds_last_error(), words.c_str()),
                  "refusal: " + words + ": " + ds_last_error());
        };
        refuses(Json(), "this engine keeps it whole");
        refuses(kEight, "with other settings of quantization");
        Json other = config;
        other["model_init"] = "random";
        other["model"] = Json::parse(ds::read_file(kModels + "llama/config.json", 1 << 20).value());
        const Engine fresh(other);
        check(ds_load(fresh.e, saved.c_str(), nullptr, nullptr) == DS_E_STATE && std::strstr(ds_last_error(), "was made from other values"),
              std::string("another base: ") + ds_last_error());
        // A whole checkpoint loads into few bits.
        const Engine plain(config_of("llama", Json(), more));
        const std::string whole = folder.path / "whole";
        must(ds_save(plain.e, whole.c_str(), nullptr, nullptr), "save");
        must(ds_load(again.e, whole.c_str(), nullptr, nullptr), "load a whole one");
        check(again.param(base) == before, "and is coded as it was");
    }
}

void exports() {
    const Batch batch("llama");
    Folder folder;
    const std::string merged = folder.path / "merged", alone = folder.path / "adapter";
    const Engine engine(config_of("llama", kFour));
    for (int i = 0; i < 3; ++i) (void)engine.step(batch.b);
    const double loss = engine.eval(batch.b);
    must(ds_export(engine.e, merged.c_str(), nullptr), "merged export");
    must(ds_export(engine.e, alone.c_str(), "{\"adapter\": true}"), "adapter export");
    close({Engine(Json{{"model", merged}}).eval(batch.b)}, {loss}, 1e-5, "a merged folder needs no bits to be few");
    Json again = config_of("llama", kFour);
    again["lora"] = {{"adapters", {{"a", alone}}}};
    close({Engine(again).eval(batch.b)}, {loss}, 1e-6, "the adapter on the same base again");
}

std::vector<int32_t> generated(const Engine& engine) {
    const int32_t prompt[] = {3, 7, 11, 5};
    int32_t* ids = nullptr;
    size_t n = 0;
    must(ds_generate(engine.e, prompt, 4, "{\"max_new_tokens\": 12}", nullptr, nullptr, &ids, &n), "generate");
    const std::vector<int32_t> found(ids, ids + n);
    ds_free(ids);
    return found;
}

void layouts_and_generation() {
    const Batch batch("llama");
    for (const auto& [quantization, precision, bound] : {std::tuple(kDouble, Json::object(), 1e-5), {kSixteen, kLow, 5e-3}}) {
        const double alone = Engine(config_of("llama", quantization, precision)).eval(batch.b);
        for (const Json& layout : {Json{{"data", 2}}, Json{{"pipeline", 2}}, Json{{"sequence", 2}}}) {
            const std::string what = quantization.dump() + layout.dump();
            Json more = precision;
            more["parallel"] = layout;
            if (layout.contains("data"))
                more["zero_optimization"] = {{"stage", 3}, {"stage3_param_persistence_threshold", 10}},
                more["train_micro_batch_size_per_gpu"] = 1;
            const Engine engine(config_of("llama", quantization, more));
            close({engine.eval(batch.b)}, {alone}, bound, what + ": the same loss");
            const double first = engine.step(batch.b);
            for (int i = 0; i < 5; ++i) (void)engine.step(batch.b);
            check(engine.step(batch.b) < first - 0.05, what + ": it learns");
        }
    }
    // Ids of a base in few bits are those of its decoded twin, and few rows go another way through the kernels than many.
    const Engine coded(config_of("llama", kFour)), plain(config_of("llama", Json()));
    copy_weights(coded, plain);
    check(!generated(coded).empty() && generated(coded) == generated(plain), "generation");
    const Engine frozen(Json{{"model", kModels + "llama"}, {"quantization_config", kEight}});
    close({frozen.eval(batch.b)}, {Engine(Json{{"model", kModels + "llama"}}).eval(batch.b)}, 0.02, "8 bits without adapters");
}

// Evaluation and generation in integers: close to the whole model, equal on the plain kernels, and a word for who wants to train so.
void integers() {
    const Json quantization = {{"load_in_8bit", true}, {"int8_products", true}};
    for (const std::string model : {"llama", "gpt2", "bert-ner"}) {
        const Batch batch(model);
        const Json config = {{"model", kModels + model}, {"quantization", quantization}};
        const double whole = Engine(Json{{"model", kModels + model}}).eval(batch.b), found = Engine(config).eval(batch.b);
        close({found}, {whole}, 0.01, model + " in integers");
        check(found != whole, model + ": integers change the loss");
        setenv("DSRT_KERNELS", "ref", 1);
        const double plain = Engine(config).eval(batch.b);
        unsetenv("DSRT_KERNELS");
        close({found}, {plain}, 1e-4, model + " in integers, on the plain kernels");
        Json low = config;
        low["bf16"] = {{"enabled", true}};
        close({Engine(low).eval(batch.b)}, {whole}, 0.02, model + " in integers between bf16");
    }
    check(generated(Engine(Json{{"model", kModels + "llama"}, {"quantization", quantization}})).size() == 12, "generation in integers");
    ds_engine* e = nullptr;
    const ds_status status = ds_engine_create(config_of("llama", quantization).dump().c_str(), nullptr, &e);
    check(status == DS_E_UNSUPPORTED && std::strstr(ds_last_error(), "for training with int8_products"),
          std::string("training in integers: ") + ds_last_error());
    ds_engine_destroy(e);
}

Json plan_of(const Json& config) {
    char* report = nullptr;
    must(ds_plan(config.dump().c_str(), nullptr, &report), "plan");
    const Json plan = Json::parse(report ? report : "{}");
    ds_free(report);
    return plan;
}

// In bf16 alone: what products would read a copy of, to the last bit, at 2 bytes a weight.
void in_bf16() {
    for (const char* model : {"gpt2", "llama", "bert-ner", "t5-gated", "mixtral"}) equals_its_decoded_base(model, kSixteen, kLow, 0);
    for (const std::string model : {"gpt2", "llama", "mixtral"}) {
        Json config = {{"model", kModels + model}, {"bf16", {{"enabled", true}}}};
        const Engine plain(config);
        const auto whole = plan_of(config)["memory_bytes"]["weights"].get<int64_t>();
        config["quantization"] = kSixteen;
        const Engine low(config);
        copy_weights(low, plain);
        const Batch batch(model);
        check(low.eval(batch.b) == plain.eval(batch.b), model + ": the same loss");
        check(generated(low) == generated(plain), model + ": the same ids");
        const auto kept = plan_of(config)["memory_bytes"]["weights"].get<int64_t>();
        check(kept < 0.6 * static_cast<double>(whole),
              model + ": half of the bytes: " + std::to_string(kept) + " of " + std::to_string(whole));
        Folder folder;
        const std::string out = folder.path / "out";
        must(ds_export(low.e, out.c_str(), nullptr), "export");
        config["model"] = out;
        const Engine again(config);
        for (const std::string& name : low.names())
            check(again.param(name) == low.param(name), model + ": " + name + " exported and read again");
    }
}

void memory() {
    Json config = {{"model",
                    {{"architectures", {"LlamaForCausalLM"}},
                     {"model_type", "llama"},
                     {"hidden_size", 4096},
                     {"intermediate_size", 11008},
                     {"num_hidden_layers", 32},
                     {"num_attention_heads", 32},
                     {"num_key_value_heads", 32},
                     {"vocab_size", 32000},
                     {"max_position_embeddings", 4096},
                     {"rms_norm_eps", 1e-5},
                     {"tie_word_embeddings", false}}},
                   {"train_micro_batch_size_per_gpu", 1},
                   {"max_seq_length", 512},
                   {"bf16", {{"enabled", true}}},
                   {"recompute", 2},
                   {"threads", 2},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-4}}}}},
                   {"lora", {{"r", 16}, {"target_modules", "all-linear"}}},
                   {"quantization", kDouble}};
    const Json plan = plan_of(config);
    const auto gib = static_cast<double>(plan["memory_bytes"]["total"]) / (1 << 30);
    std::printf("a 7B-shaped LLaMA, NF4 with two levels, rows of 512: %.2f GiB (weights %.2f, working %.2f)\n", gib,
                static_cast<double>(plan["memory_bytes"]["weights"]) / (1 << 30),
                static_cast<double>(plan["memory_bytes"]["working"]) / (1 << 30));
    check(plan["parameters"].get<int64_t>() > 6'700'000'000 && gib < 8,
          "a 7B-shaped base in few bits trains within 8 GiB: " + std::to_string(gib));
    config.erase("quantization");
    check(plan_of(config)["memory_bytes"]["total"].get<double>() / (1 << 30) > 24, "whole, it does not");
    // What a small engine holds is what its plan says.
    const Json small = config_of("llama", kFour);
    const Engine engine(small);
    const Batch batch("llama");
    (void)engine.step(batch.b);
    const int64_t weights = plan_of(small)["memory_bytes"]["weights"],
                  whole = plan_of(config_of("llama", Json()))["memory_bytes"]["weights"];
    check(weights < whole, "fewer bytes of weights: " + std::to_string(weights) + " and " + std::to_string(whole));
}

void errors() {
    const auto refused = [](const Json& config, ds_status code, const std::string& words) {
        ds_engine* e = nullptr;
        const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
        check(status == code && std::strstr(ds_last_error(), words.c_str()),
              "refusal: " + words + ": found " + std::to_string(status) + " " + (status < 0 ? ds_last_error() : ""));
        ds_engine_destroy(e);
    };
    refused(config_of("llama", Json::object()), DS_E_CONFIG,
            "quantization.load_in_4bit: one of it, load_in_8bit and load_in_16bit must be true, and none is");
    refused(config_of("llama", {{"load_in_4bit", true}, {"load_in_8bit", true}}), DS_E_CONFIG, "not several");
    refused(config_of("llama", kSixteen), DS_E_CONFIG, "quantization.load_in_16bit: keeps weights in bf16: set bf16.enabled");
    refused(config_of("llama", {{"load_in_16bit", true}, {"llm_int8_skip_modules", {"up_proj"}}}, kLow), DS_E_CONFIG,
            "quantization.llm_int8_skip_modules: belongs to load_in_4bit and load_in_8bit");
    Json whole = config_of("llama", kSixteen, kLow);
    whole.erase("lora");
    refused(whole, DS_E_UNSUPPORTED, "quantization.load_in_16bit: not built for training weights");
    refused(config_of("llama", {{"load_in_4bit", true}, {"bnb_4bit_quant_type", "fp4"}}), DS_E_UNSUPPORTED,
            "fp4 is not built; there are nf4 and int4");
    refused(config_of("llama", {{"load_in_4bit", true}, {"bnb_4bit_quant_type", "int3"}}), DS_E_CONFIG, "quantization.bnb_4bit_quant_type");
    refused(config_of("llama", {{"load_in_8bit", true}, {"bnb_4bit_use_double_quant", true}}), DS_E_CONFIG, "belongs to load_in_4bit");
    refused(config_of("llama", {{"load_in_4bit", true}, {"bnb_4bit_compute_dtype", "bfloat16"}}), DS_E_CONFIG,
            "contradicts fp16.enabled and bf16.enabled");
    refused(config_of("llama", {{"load_in_4bit", true}, {"llm_int8_skip_modules", {"nothing"}}}), DS_E_CONFIG,
            "no linear module of the model is called nothing");
    refused(config_of("llama", {{"load_in_4bits", true}}), DS_E_CONFIG, "quantization.load_in_4bits: unknown key");
    refused(config_of("llama", kFour, {{"parallel", {{"tensor", 2}}}}), DS_E_UNSUPPORTED, "quantization: not built for parallel.tensor");
    Json pruned = config_of("llama", kFour,
                            {{"compression_training",
                              {{"sparse_pruning",
                                {{"shared_parameters", {{"enabled", true}}},
                                 {"different_groups", {{"g", {{"params", {{"dense_ratio", 0.5}}}, {"modules", {"q_proj"}}}}}}}}}}});
    pruned.erase("lora");
    refused(pruned, DS_E_UNSUPPORTED, "quantization: not built together with compression_training");
}

}  // namespace

int main() {
    for (const Json& quantization : {kFour, kDouble, kEight}) {
        for (const char* model : {"gpt2", "llama", "bert-ner"}) equals_its_decoded_base(model, quantization, Json::object(), 2e-6);
        equals_its_decoded_base("llama", quantization, {{"bf16", {{"enabled", true}}}}, 2e-3);
        equals_its_decoded_base("llama", quantization, {{"recompute", 2}, {"gradient_clipping", 1.0}}, 2e-6);
    }
    bits_are_what_they_cost();
    learns_and_resumes();
    exports();
    layouts_and_generation();
    integers();
    in_bf16();
    memory();
    errors();
    return checks::result();
}
