// Values of another kind than a call's JSON should have: every key of the config, and every value of the options of calls, becomes a
// number, a text, a list, an object, null. Whatever is said to it names the place; nothing is an internal error.
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/json.h"
#include "support/training.h"

namespace {

using checks::check, checks::must;
using ds::Json;
using training::Folder;

const std::vector<Json> kKinds = {3,
                                  -1,
                                  0.5,
                                  1e30,
                                  INT64_MIN,
                                  UINT64_MAX,
                                  true,
                                  nullptr,
                                  "",
                                  "x",
                                  "auto",
                                  Json::array(),
                                  Json::object(),
                                  Json::array({1, "a", nullptr}),
                                  Json::array({Json::array()}),
                                  Json::array({Json::object()}),
                                  {{"a", 1}}};

void each_mutant(const Json& good, const std::function<void(const Json&)>& f) {
    if (!good.is_structured()) return;
    for (auto member = good.begin(); member != good.end(); ++member) {
        const auto with = [&](const Json& value) {
            Json mutant = good;
            if (good.is_object()) mutant[member.key()] = value;
            else mutant[static_cast<size_t>(member - good.begin())] = value;
            f(mutant);
        };
        for (const Json& kind : kKinds) with(kind);
        each_mutant(*member, with);
    }
}

// What a call says to it is its own answer, and in words. names: a part of them, where the call fails.
void answered(ds_status status, const std::string& what, const std::string& names = "") {
    const std::string said = status < 0 ? ds_last_error() : "";
    if (status == DS_E_INTERNAL || (status < 0 && said.find(names) == said.npos))
        check(false, what.substr(0, 300) + ": " + ds_status_name(status) + ": " + said);
    else check(true, what);
}

Json config_of(const char* model) {
    return {{"model", std::string(DSRT_TEST_DATA "/models/") + model},
            {"train_micro_batch_size_per_gpu", 2},
            {"threads", 1},
            {"logger", {{"default_verbosity", "ERROR"}}},
            {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.1}}}}}};
}

ds_status made(const Json& config) {
    ds_engine* e = nullptr;
    const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
    ds_engine_destroy(e);
    return status;
}

// "a.b[].c" as {"a": {"b": [{"c": value}]}} inside `to`.
void put(Json& to, std::string_view path, const Json& value) {
    Json* at = &to;
    for (size_t dot = 0; dot != path.npos;) {
        dot = path.find('.');
        std::string_view name = path.substr(0, dot);
        const bool list = name.ends_with("[]");
        if (list) name.remove_suffix(2);
        Json& member = (*at)[std::string(name == "*" ? "a" : name)];
        const bool last = dot == path.npos;
        if (list && !member.is_array()) member = Json::array({last ? value : Json::object()});
        if (!list && !last && !member.is_object()) member = Json::object();
        if (!list && last) member = value;
        at = list ? &member[0] : &member;
        path.remove_prefix(last ? path.size() : dot + 1);
    }
}

void configs() {
    char* text = nullptr;
    must(ds_config_describe(&text), "describe");
    const Json keys = Json::parse(text);
    ds_free(text);
    check(keys.size() > 300, "the config's keys are described");
    for (const auto& [key, about] : keys.items()) {
        const std::string section = key.substr(0, key.find_first_of(".["));
        for (const Json& kind : kKinds) {
            Json config = config_of("gpt2");
            put(config, key, kind);
            if (section != key && keys.contains(section + ".enabled") && key != section + ".enabled") config[section]["enabled"] = true;
            const bool older = about["meaning"].get<std::string>().starts_with("older spelling");  // sums of sizes name the newer one
            answered(made(config), "config: " + key + " = " + kind.dump(), older ? "" : section);
        }
    }
}

void models() {
    for (const auto& folder : std::filesystem::directory_iterator(DSRT_TEST_DATA "/models")) {
        std::ifstream file(folder.path() / "config.json");
        if (!file) continue;
        each_mutant(Json::parse(file), [&](const Json& mutant) {
            Json config = config_of("");
            config["model"] = mutant;
            config["model_init"] = "random";
            answered(made(config), folder.path().filename().string() + ": " + mutant.dump());
        });
    }
}

struct Text {
    char* text = nullptr;
    ~Text() { ds_free(text); }
};

void calls() {
    Folder folder;
    const std::string rows = folder.path / "rows.jsonl", out = folder.path / "out";
    std::ofstream(rows) << "{\"ids\": [1, 2, 3], \"label\": 1}\n{\"ids\": [4], \"label\": 0}\n";
    const training::Engine bert(config_of("bert-sentiment")), gpt2(config_of("gpt2"));
    const Json data = {{"files", {rows}},
                       {"columns", {{"input_ids", "ids"}, {"label", {{"column", "label"}, {"names", {"x", "y"}}}}}},
                       {"split", {{"every", 2}, {"take", "train"}}},
                       {"shard", {{"rank", 0}, {"count", 1}}},
                       {"shuffle", false}};
    each_mutant(data, [&](const Json& mutant) {
        ds_data* d = nullptr;
        answered(ds_data_open(mutant.dump().c_str(), bert.e, &d), "data: " + mutant.dump());
        ds_data_destroy(d);
    });
    const Json plain = {{"files", rows}, {"columns", {{"input_ids", "ids"}, {"label", "label"}}}};
    each_mutant(Json{{"generate", {{"max_new_tokens", 2}}}, {"max_answer_tokens", 3}, {"predictions", out + ".jsonl"}},
                [&](const Json& mutant) {
                    Text scores;
                    answered(ds_evaluate(bert.e, plain.dump().c_str(), mutant.dump().c_str(), &scores.text), "evaluate: " + mutant.dump());
                });
    const int32_t prompt[3] = {1, 2, 3};
    const Json sampling = {{"max_new_tokens", 2},
                           {"temperature", 1.0},
                           {"top_k", 3},
                           {"top_p", 0.5},
                           {"seed", 1},
                           {"min_p", 0.1},
                           {"eos_token_id", {1}},
                           {"repetition_penalty", 1.5},
                           {"do_sample", true},
                           {"num_beams", 1},
                           {"num_return_sequences", 1}};
    each_mutant(sampling, [&](const Json& mutant) {
        if (mutant["max_new_tokens"].is_number() && mutant["max_new_tokens"] > 3) return;  // those are accepted, and take their time
        int32_t* ids = nullptr;
        size_t n = 0;
        answered(ds_generate(gpt2.e, prompt, 3, mutant.dump().c_str(), nullptr, nullptr, &ids, &n), "generate: " + mutant.dump());
        ds_free(ids);
    });
    struct Score {
        const char* metric;
        Json predictions, references;
    };
    for (const auto& [metric, predictions, references] : {Score{"spans", {{"B-PER", "O"}}, {{"B-PER", "O"}}},
                                                          {"squad", {"a"}, Json::array({Json::array({"a", "b"})})},
                                                          {"bleu", {"a b"}, {"a b"}}})
        for (const bool first : {true, false})
            each_mutant(
                first ? predictions : references, [&, metric = metric, good = first ? references : predictions](const Json& mutant) {
                    Text scores;
                    answered(ds_score(metric, (first ? mutant : good).dump().c_str(), (first ? good : mutant).dump().c_str(), &scores.text),
                             std::string(metric) + ": " + mutant.dump());
                });
    const Json report = Json::parse(R"({"title": "t", "summary": [["a", "b"]],
        "charts": [{"title": "x", "x_label": "s", "series": [{"name": "n", "markers": true, "points": [[1, 2], [2, 3]]}]}]})");
    each_mutant(report, [&](const Json& mutant) {
        answered(ds_report(bert.e, (out + ".html").c_str(), mutant.dump().c_str()), "report: " + mutant.dump());
    });
    each_mutant(Json{{"dtype", "f32"}, {"max_shard_bytes", 100000}, {"adapter", false}, {"quantized", false}},
                [&](const Json& mutant) { answered(ds_export(bert.e, out.c_str(), mutant.dump().c_str()), "export: " + mutant.dump()); });
    each_mutant(Json{{"weights_only", false}, {"async", false}, {"client_state", nullptr}},
                [&](const Json& mutant) { answered(ds_save(bert.e, out.c_str(), "t", mutant.dump().c_str()), "save: " + mutant.dump()); });
    each_mutant(Json{{"weights_only", false}},
                [&](const Json& mutant) { answered(ds_load(bert.e, out.c_str(), "t", mutant.dump().c_str()), "load: " + mutant.dump()); });
    for (const char* key : {"lr", "param_groups", "loss_scale", "seed", "adapter", "gradient_clipping", ""})
        for (const Json& kind : kKinds) answered(ds_engine_set(bert.e, key, kind.dump().c_str()), std::string("set: ") + key + kind.dump());
}

}  // namespace

int main() {
    const Folder folder;
    std::filesystem::current_path(folder.path);  // some values are taken for the names of files
    configs();
    models();
    calls();
    return checks::result();
}
