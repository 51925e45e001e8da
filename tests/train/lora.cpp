// LoRA against PEFT: adapters that PEFT wrote, on the golden models, give PEFT's loss, logits, gradients, and parameters after three AdamW
// steps (tests/data/lora/make.py, in f64); what is trained and what is not; files in both directions; merging; several adapters on one
// base.
#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/golden_batch.h"

namespace {

using ds::Json;
using training::check, training::Folder, training::must, training::numbers, training::Numbers;

const std::string kData = DSRT_TEST_DATA;

Numbers numbers(const ds::TensorView& view) {
    Numbers out(static_cast<size_t>(ds::elements(view.shape)));
    ds::convert(view.data.data(), view.dtype, out.data(), ds::DType::f64, static_cast<int64_t>(out.size()));
    return out;
}
double distance(const Numbers& a, const Numbers& b) { return training::distance(a, b, 1e-7); }
void close(const Numbers& found, const Numbers& exact, double bound, const std::string& what) {
    double d = distance(found, exact);
    double most = 0;
    for (const double x : exact) most = std::max(most, std::fabs(x));
    if (most < 1e-7 && found.size() == exact.size()) {  // zero in exact arithmetic (key biases)
        d = 0;
        for (const double x : found) d = std::max(d, std::fabs(x));
        bound = std::max(bound, 1e-6);
    }
    check(d <= bound, what + ": " + std::to_string(d * 1e6) + "e-6 off, bound " + std::to_string(bound));
}

using Batch = training::GoldenBatch;

struct Engine : training::Engine {
    using training::Engine::Engine;
    std::vector<std::string> trained() const {
        std::vector<std::string> list = names(true);
        std::sort(list.begin(), list.end());
        return list;
    }
    std::string get(const char* key) const {
        char* json = nullptr;
        must(ds_engine_get(e, key, &json), key);
        const std::string text = json ? json : "";
        ds_free(json);
        return text;
    }
};

Json config_of(const std::string& model, Json lora, Json more = Json::object()) {
    Json config = {{"model", kData + "/models/" + model},
                   {"train_micro_batch_size_per_gpu", 2},
                   {"gradient_clipping", 0},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}, {"eps", 1e-5}, {"weight_decay", 0}}}}},
                   {"lora", lora}};
    config.update(more);
    return config;
}
std::string adapter(const std::string& name) { return kData + "/lora/" + name; }

// PEFT's name of a trained parameter, from ours.
std::string peft_name(const std::string& ours) { return ours.starts_with("base_model.") ? ours : "base_model.model." + ours; }

void equals_peft(const std::string& name, const std::string& model, const Json& layout) {
    const auto file = ds::SafetensorsFile::open(adapter(name) + "/expected.safetensors");
    const auto expected = [&](const std::string& key) { return file->find(key) ? numbers(*file->find(key)) : Numbers{}; };
    Json more = {{"outputs", {"logits"}}};  // whole, masked positions too
    if (!layout.empty()) more["parallel"] = layout;
    const Engine engine(config_of(model, {{"adapters", {{"tuned", adapter(name)}}}}, more));
    const Batch batch(model);
    const std::vector<std::string> trained = engine.trained();
    std::vector<std::string> wanted;
    for (const ds::TensorView& view : file->tensors())
        if (view.name.starts_with("grad.")) wanted.push_back(view.name.substr(5));
    std::vector<std::string> found;
    for (const std::string& p : trained) found.push_back(peft_name(p));
    std::sort(wanted.begin(), wanted.end());
    std::sort(found.begin(), found.end());
    check(found == wanted, name + ": trained are " + Json(found).dump() + ", PEFT trains " + Json(wanted).dump());
    close({engine.eval(batch.b)}, expected("loss"), 1e-5, name + " loss");
    close(engine.output("logits"), expected("logits"), 1e-5, name + " logits");
    float loss = 0;
    must(ds_forward(engine.e, batch.b, &loss), "forward");
    must(ds_backward(engine.e), "backward");
    for (const std::string& p : trained)
        close(engine.param(p, DS_GRAD), expected("grad." + peft_name(p)), 5e-5, name + " gradient of " + p);
    must(ds_step(engine.e), "step");
    for (int k = 2; k <= 3; ++k)
        close({engine.step(batch.b)}, expected("step" + std::to_string(k) + ".loss"), 2e-5, name + " step " + std::to_string(k));
    for (const std::string& p : trained) close(engine.param(p), expected("param." + peft_name(p)), 1e-3, name + " parameter " + p);
}

void files_and_merging(const std::string& name, const std::string& model) {
    const Batch batch(model);
    Folder folder;
    const std::string merged = folder.path / "merged", alone = folder.path / "adapter";
    double loss = 0;
    Numbers logits;
    {
        const Engine engine(config_of(model, {{"adapters", {{"a", adapter(name)}}}}));
        (void)engine.step(batch.b);
        loss = engine.eval(batch.b);
        logits = engine.output("logits");
        must(ds_export(engine.e, merged.c_str(), nullptr), "merged export");
        must(ds_export(engine.e, alone.c_str(), "{\"adapter\": true}"), "adapter export");
    }
    const Engine plain(Json{{"model", merged}});
    close({plain.eval(batch.b)}, {loss}, 1e-5, name + ": merged loss");
    close(plain.output("logits"), logits, 1e-5, name + ": merged logits");
    for (const std::string& p : plain.trained()) check(p.find("lora_") == p.npos, name + ": a merged folder has no adapters, but " + p);
    const Engine again(config_of(model, {{"adapters", {{"a", alone}}}}));
    close({again.eval(batch.b)}, {loss}, 1e-6, name + ": the exported adapter's loss");
    const auto theirs = ds::SafetensorsFile::open(adapter(name) + "/adapter_model.safetensors"),
               ours = ds::SafetensorsFile::open(alone + "/adapter_model.safetensors");
    check(ours.ok(), "the exported file reads");
    for (const ds::TensorView& view : theirs->tensors())
        if (view.name.find("original_module") == view.name.npos && view.name.find("modules_to_save") == view.name.npos)
            check(ours->find(view.name) && ours->find(view.name)->shape == view.shape, name + ": the exported adapter has " + view.name);
    check(std::filesystem::file_size(alone + "/adapter_model.safetensors") <
              std::filesystem::file_size(kData + "/models/" + model + "/model.safetensors"),
          "an adapter's file is small");
}

void several_adapters() {
    const Batch batch("gpt2");
    const auto alone = [&](const std::string& name) {
        return Engine(config_of("gpt2", {{"adapters", {{"x", adapter(name)}}}})).eval(batch.b);
    };
    const double plain = Engine(Json{{"model", kData + "/models/gpt2"}}).eval(batch.b), all = alone("gpt2-all"), b = alone("gpt2-b");
    // Ranks 4 and 2, scales 2 and 4, modules of which one has more: on one base.
    const Engine engine(config_of("gpt2", {{"adapters", {{"all", adapter("gpt2-all")}, {"b", adapter("gpt2-b")}, {"fresh", nullptr}}},
                                           {"adapter", "all"},
                                           {"target_modules", {"c_attn"}},
                                           {"r", 3}}));
    check(engine.get("lora.adapter") == "\"all\"", "the active adapter: " + engine.get("lora.adapter"));
    close({engine.eval(batch.b)}, {all}, 1e-6, "the first adapter");
    must(ds_engine_set(engine.e, "lora.adapter", "\"b\""), "switch");
    close({engine.eval(batch.b)}, {b}, 1e-6, "the second adapter");
    must(ds_engine_set(engine.e, "lora.adapter", "\"fresh\""), "switch");
    close({engine.eval(batch.b)}, {plain}, 1e-6, "a fresh adapter changes nothing");
    const double trained = (engine.step(batch.b), engine.step(batch.b), engine.eval(batch.b));
    check(trained < plain - 1e-3, "a fresh adapter learns");
    must(ds_engine_set(engine.e, "lora.adapter", "\"all\""), "switch");
    close({engine.eval(batch.b)}, {all}, 1e-6, "the first adapter is as it was");
    must(ds_engine_set(engine.e, "lora.adapter", "\"fresh\""), "switch");
    close({engine.eval(batch.b)}, {trained}, 1e-6, "and the trained one too");
    must(ds_engine_set(engine.e, "lora.adapter", "\"b\""), "switch");
    Folder folder;
    must(ds_export(engine.e, folder.path.c_str(), "{\"adapter\": true}"), "export");
    close({Engine(config_of("gpt2", {{"adapters", {{"x", folder.path.string()}}}})).eval(batch.b)}, {b}, 1e-6,
          "an adapter of smaller rank leaves with its own rank and scale");
    check(ds_engine_set(engine.e, "lora.adapter", "\"c\"") == DS_E_CONFIG &&
              std::strstr(ds_last_error(), "there is no adapter c; there are all, b, fresh"),
          std::string("no such adapter: ") + ds_last_error());
    must(ds_forward(engine.e, batch.b, nullptr), "forward");
    must(ds_backward(engine.e), "backward");
    Engine two(config_of("gpt2", {{"adapters", {{"p", nullptr}, {"q", nullptr}}}}, {{"gradient_accumulation_steps", 2}}));
    must(ds_forward(two.e, batch.b, nullptr), "forward");
    must(ds_backward(two.e), "backward");
    check(ds_engine_set(two.e, "lora.adapter", "\"q\"") == DS_E_STATE && std::strstr(ds_last_error(), "call ds_step or ds_zero_grad first"),
          "no switch within a step");
}

Json two_adapters() {
    return {{"adapters", {{"a", adapter("gpt2-all")}, {"b", adapter("gpt2-all")}, {"c", nullptr}}}, {"target_modules", {"c_attn"}}};
}
void activate(const Engine& engine, const std::string& name) {
    must(ds_engine_set(engine.e, "lora.adapter", Json(name).dump().c_str()), "activate " + name);
}
void same_parameters(const Engine& found, const Engine& wanted, const std::string& what) {
    for (const std::string& p : wanted.trained())
        for (const int field : {DS_WEIGHT, DS_FIRST_MOMENT, DS_SECOND_MOMENT})
            check(found.param(p, field) == wanted.param(p, field), what + ": " + std::to_string(field) + " of " + p);
}

void each_adapter_counts_its_own_updates() {
    const Batch batch("gpt2");
    const Engine engine(config_of("gpt2", two_adapters())), alone(config_of("gpt2", two_adapters()));
    for (int i = 0; i < 3; ++i) (void)engine.step(batch.b);
    activate(engine, "b");
    (void)engine.step(batch.b);
    (void)alone.step(batch.b);
    same_parameters(engine, alone, "the first update of an adapter that begins later");
    activate(engine, "a");
    (void)engine.step(batch.b);
    for (int i = 1; i < 4; ++i) (void)alone.step(batch.b);
    same_parameters(engine, alone, "the fourth update of an adapter that had waited");
}

void null_is_the_first_adapter() {
    const Engine engine(config_of("gpt2", two_adapters()));
    activate(engine, "b");
    must(ds_engine_set(engine.e, "lora.adapter", "null"), "null");
    check(engine.get("lora.adapter") == "\"a\"", "null is " + engine.get("lora.adapter"));
}

void checkpoints_hold_all_adapters() {
    const Batch batch("gpt2");
    const Engine engine(config_of("gpt2", two_adapters()));
    Folder folder;
    const auto save = [&](const char* tag) { must(ds_save(engine.e, folder.path.c_str(), tag, nullptr), tag); };
    const auto load = [&](const Engine& to, const char* tag, const char* options = nullptr) {
        must(ds_load(to.e, folder.path.c_str(), tag, options), tag);
    };
    save("start");
    for (int i = 0; i < 3; ++i) (void)engine.step(batch.b);
    activate(engine, "b");
    (void)engine.step(batch.b);
    save("later");
    must(ds_save(engine.e, folder.path.c_str(), "weights", "{\"weights_only\": true}"), "weights");
    const Engine resumed(config_of("gpt2", two_adapters())), halves(config_of("gpt2", two_adapters(), {{"parallel", {{"tensor", 2}}}})),
        weights(config_of("gpt2", two_adapters()));
    load(resumed, "later");
    load(halves, "later");
    load(weights, "weights");
    check(resumed.get("lora.adapter") == "\"b\"", "active after a load: " + resumed.get("lora.adapter"));
    same_parameters(resumed, engine, "the active adapter");
    for (const char* name : {"a", "b", "c"}) {
        for (const Engine* each : {&engine, &resumed, &halves, &weights}) activate(*each, name);
        const double loss = engine.eval(batch.b);
        check(weights.eval(batch.b) == loss, std::string("loss by the weights of ") + name);
        check(resumed.step(batch.b) == engine.step(batch.b), std::string("loss of ") + name);
        same_parameters(resumed, engine, std::string("resumed ") + name);
        close({halves.step(batch.b)}, {loss}, 1e-6, std::string("the loss by two ranks of ") + name);
        close({halves.eval(batch.b)}, {engine.eval(batch.b)}, 1e-5, std::string("and the next of ") + name);
    }
    const Engine other(config_of("gpt2", {{"adapters", {{"x", nullptr}}}, {"target_modules", {"c_attn"}}}));
    check(ds_load(other.e, folder.path.c_str(), "later", nullptr) == DS_E_CONFIG &&
              std::strstr(ds_last_error(), "there is no adapter b; there are x"),
          std::string("another engine's adapters: ") + ds_last_error());

    load(engine, "start");
    const Engine fresh(config_of("gpt2", two_adapters()));
    for (const char* name : {"a", "b"}) {
        for (const Engine* each : {&engine, &fresh}) activate(*each, name);
        check(engine.eval(batch.b) == fresh.eval(batch.b), std::string("nothing later stays of ") + name);
    }
}

void frozen_is_frozen() {
    const Batch batch("llama");
    const Engine engine(config_of("llama", {{"r", 4}, {"dropout", 0.3}, {"target_modules", "all-linear"}}));
    const Numbers before = engine.param("model.layers.0.mlp.up_proj.weight");
    const double first = engine.eval(batch.b);
    for (int i = 0; i < 10; ++i) (void)engine.step(batch.b);
    check(engine.eval(batch.b) < first - 0.05, "a fresh adapter on every linear module learns");
    check(engine.param("model.layers.0.mlp.up_proj.weight") == before, "the base stays");
    ds_tensor* t = nullptr;
    check(ds_param_get(engine.e, "model.layers.0.mlp.up_proj.weight", DS_FIRST_MOMENT, &t) == DS_E_UNSUPPORTED, "the base has no moments");
    char* report = nullptr;
    must(ds_plan(config_of("llama", {{"r", 4}}).dump().c_str(), nullptr, &report), "plan");
    const Json plan = Json::parse(report ? report : "{}");
    ds_free(report);
    check(plan["trained_parameters"] == 2 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4) &&
              plan["memory_bytes"]["gradients"] == 4 * plan["trained_parameters"].get<int64_t>(),
          "gradients and states of adapters only: " + plan["trained_parameters"].dump());
    // Dropout and bf16 work, and an evaluation has no dropout.
    const Engine low(config_of("llama", {{"r", 4}, {"dropout", 0.3}}, {{"bf16", {{"enabled", true}}}}));
    const double low_first = low.eval(batch.b);
    check(low.eval(batch.b) == low_first, "evaluation draws nothing");
    for (int i = 0; i < 10; ++i) (void)low.step(batch.b);
    check(low.eval(batch.b) < low_first - 0.05, "bf16 learns");
}

void errors() {
    const auto refused = [](Json config, ds_status code, const std::string& words) {
        ds_engine* e = nullptr;
        const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
        check(status == code && std::strstr(ds_last_error(), words.c_str()),
              "refusal: " + words + ": found " + std::to_string(status) + " " + (status < 0 ? ds_last_error() : ""));
        ds_engine_destroy(e);
    };
    refused(config_of("llama", {{"target_modules", {"q_proj", "c_attn"}}}), DS_E_CONFIG,
            "lora.target_modules: no linear module of the model is called c_attn; they are like");
    refused(config_of("llama", {{"r", 0}}), DS_E_CONFIG, "lora.r: must be an integer above 0");
    refused(config_of("llama", {{"dropout", 1.0}}), DS_E_CONFIG, "lora.dropout");
    refused(config_of("llama", {{"bias", "some"}}), DS_E_CONFIG, "lora.bias");
    refused(config_of("llama", {{"rank", 4}}), DS_E_CONFIG, "lora.rank: unknown key");
    refused(config_of("llama", {{"adapters", {{"x", "/nowhere"}}}}), DS_E_NOT_FOUND, "/nowhere/adapter_config.json");
    refused(config_of("llama", {{"adapters", {{"x", adapter("gpt2-b")}}}}), DS_E_CONFIG,
            "an adapter changes transformer.h.0.attn.c_attn, which is no linear module of this model");
    refused(config_of("llama", {{"adapters", {{"x", adapter("llama-qv")}}}, {"adapter", "y"}}), DS_E_CONFIG,
            "there is no adapter y; there are x");
    Folder folder;
    const auto changed = [&](const char* key, const Json& value) {
        std::filesystem::copy(adapter("llama-qv"), folder.path,
                              std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
        const auto text = ds::read_file(folder.path / "adapter_config.json", 1 << 20);
        Json settings = Json::parse(text.value());
        settings[key] = value;
        (void)ds::write_file_atomically(folder.path / "adapter_config.json", settings.dump());
        return config_of("llama", {{"adapters", {{"x", folder.path.string()}}}});
    };
    refused(changed("use_dora", true), DS_E_UNSUPPORTED, "adapter_config.json: use_dora is not built");
    refused(changed("peft_type", "IA3"), DS_E_UNSUPPORTED, "peft_type \"IA3\" is not built");
    refused(changed("rank_pattern", {{"q_proj", 4}}), DS_E_UNSUPPORTED, "rank_pattern is not built");
    refused(changed("r", 4), DS_E_CORRUPT, "but adapter_config.json says r 4");
    refused(changed("r", "x"), DS_E_CORRUPT, "r must be a positive integer, not \"x\"");
    (void)ds::write_file_atomically(folder.path / "adapter_model.safetensors", "no safetensors");
    refused(config_of("llama", {{"adapters", {{"x", folder.path.string()}}}}), DS_E_CORRUPT, "adapter_");
    const Engine plain(Json{{"model", kData + "/models/llama"}});
    check(ds_export(plain.e, folder.path.c_str(), "{\"adapter\": true}") == DS_E_STATE, "no adapter to export");
    check(ds_engine_set(plain.e, "lora.adapter", "\"x\"") == DS_E_STATE, "no adapter to switch to");
}

}  // namespace

int main() {
    for (const auto& [name, model] : std::vector<std::pair<std::string, std::string>>{
             {"gpt2-all", "gpt2"}, {"gpt2-b", "gpt2"}, {"llama-qv", "llama"}, {"llama-rs", "llama"}, {"bert-ner", "bert-ner"}}) {
        equals_peft(name, model, {});
        files_and_merging(name, model);
    }
    equals_peft("llama-qv", "llama", {{"tensor", 2}, {"local_ranks", 2}});
    equals_peft("gpt2-all", "gpt2", {{"tensor", 2}, {"local_ranks", 2}});
    several_adapters();
    each_adapter_counts_its_own_updates();
    null_is_the_first_adapter();
    checkpoints_hold_all_adapters();
    frozen_is_frozen();
    errors();
    return checks::result();
}
