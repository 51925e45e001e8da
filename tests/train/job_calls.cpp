// What a job of several processes does beyond forward, backward and step: growing batches, curricula, skipped blocks, compression, memory
// limits, generation, evaluation. Each play is run in one process and in several, started with torchrun's variables; every process must
// tell, number by number, what the one tells.
#include <dsrt/dsrt.hpp>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "support/processes.h"
#include "support/training.h"

namespace {

using checks::check, checks::failed;
using ds::Json;
using job::must, job::rank_here, job::size_here, job::text_of;
namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const std::string kData = DSRT_TEST_DATA;

bool is_last() { return rank_here() + 1 == size_here(); }

// One process's part of a play, and what it has to tell.
struct Player {
    Json more;        // of the layout
    std::string out;  // a path of this run
    std::string told;

    void tell(const std::string& what, const Json& value) { told += what + " " + value.dump() + "\n"; }
    void tell(ds_status status) { told += ds_status_name(status) + std::string("\n"); }
    void tell_why(ds_status status) { told += ds_status_name(status) + std::string(" ") + (status < 0 ? ds_last_error() : "") + "\n"; }

    Json config_of(const std::string& model, const Json& feature) const {
        Json config = {{"model", kData + "/models/" + model},
                       {"train_micro_batch_size_per_gpu", 2},
                       {"threads", 1},
                       {"logger", {{"default_verbosity", "ERROR"}}},
                       {"comm", {{"deadline_seconds", 30}}},
                       {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}}}}}};
        config.merge_patch(more);
        config.merge_patch(feature);
        return config;
    }
    void metrics(ds_engine* e, std::initializer_list<const char*> names) {
        for (const char* name : names) {
            double value = 0;
            must(ds_metric(e, name, &value), name);
            tell(name, value);
        }
    }
    void weights(ds_engine* e) {
        for (const std::string& name : training::names(e)) {
            double sum = 0, squares = 0;
            for (const double x : training::param(e, name)) sum += x, squares += x * x;
            tell(name, {sum, squares});
        }
    }
    // So many updates on rows of ids, after them the weights. Eight rows: of nine the last would be left out, as there are fewer than
    // processes. All of one length with their padding: random numbers belong to places in the padded batch, and kernels are chosen by its
    // length.
    void train(ds_engine* e, int updates, std::initializer_list<const char*> names) {
        const std::string rows =
            R"({"files": [")" + kData +
            R"(/config_live.jsonl"], "task": "sequence_classification", "columns": {"input_ids": "ids", "label": "label"}, "limit": 8, "padding": "max_length", "max_length": 20})";
        ds_data* data = nullptr;
        must(ds_data_open(rows.c_str(), e, &data), "data");
        for (int i = 0; i < updates; ++i) {
            float loss = 0;
            const ds_status status = ds_train_batch(e, data, &loss);
            must(status, "train");
            tell(status);
            if (status != DS_END) tell("loss", loss);
            metrics(e, {"grad_norm", "lr", "global_samples", "tokens", "batch_size"});
            metrics(e, names);
        }
        weights(e);
        ds_data_destroy(data);
    }
    void train_with(const Json& feature, int updates, std::initializer_list<const char*> names = {}) {
        ds_engine* e = nullptr;
        must(ds_engine_create(config_of("bert-sentiment", feature).dump().c_str(), nullptr, &e), "create");
        train(e, updates, names);
        ds_engine_destroy(e);
    }
};

using Play = void (*)(Player&);

void growing_batches(Player& p) {
    p.train_with({{"train_micro_batch_size_per_gpu", 1}, {"batch_growth", {{"schedule", {{1, 4}, {2, 6}}}}}}, 4);
    p.train_with({{"train_micro_batch_size_per_gpu", 1},
                  {"batch_growth", {{"by", "plateau"}, {"max_batch_size", 6}, {"patience", 1}, {"smoothing", 0.0}, {"threshold", 0.5}}}},
                 4);
}
void noise_scales(Player& p) {
    const Json noise = {{"by", "noise_scale"}, {"max_batch_size", 8}, {"patience", 1}, {"smoothing", 0.5}};
    if (p.more["parallel"].contains("data") && !p.more.contains("zero_optimization"))
        p.train_with({{"batch_growth", noise}}, 3, {"noise_scale"});  // of data ranks
    p.train_with({{"train_micro_batch_size_per_gpu", 1}, {"gradient_accumulation_steps", 2}, {"batch_growth", noise}}, 3,
                 {"noise_scale"});  // of micro-batches
}
void easy_rows_first(Player& p) {
    p.train_with({{"data_efficiency",
                   {{"enabled", true},
                    {"data_sampling",
                     {{"enabled", true},
                      {"curriculum_learning",
                       {{"enabled", true},
                        {"curriculum_metrics",
                         {{"seqlen",
                           {{"min_difficulty", 8},
                            {"max_difficulty", 60},
                            {"schedule_type", "fixed_linear"},
                            {"schedule_config", {{"total_curriculum_step", 4}, {"difficulty_step", 1}}}}}}}}}}}}}},
                 4);
    p.train_with({{"curriculum_learning",
                   {{"enabled", true},
                    {"curriculum_type", "seqlen"},
                    {"min_difficulty", 4},
                    {"max_difficulty", 12},
                    {"schedule_type", "fixed_linear"},
                    {"schedule_config", {{"total_curriculum_step", 4}, {"difficulty_step", 1}}}}}},
                 3, {"curriculum_difficulty"});
}
void batches_by_tokens(Player& p) {
    p.train_with(
        {{"train_micro_batch_size_per_gpu", 1},
         {"data_efficiency",
          {{"enabled", true}, {"data_sampling", {{"enabled", true}, {"dynamic_batching", {{"enabled", true}, {"max_tokens", 40}}}}}}}},
        3);
}
void skipped_work(Player& p) {
    p.train_with({{"progressive_layer_drop", {{"enabled", true}, {"theta", 0.5}, {"gamma", 0.5}}}}, 4, {"layers_skipped"});
    p.train_with({{"data_efficiency",
                   {{"enabled", true},
                    {"data_routing",
                     {{"enabled", true},
                      {"random_ltd",
                       {{"enabled", true},
                        {"random_ltd_layer_id", {0}},
                        {"random_ltd_schedule",
                         {{"min_value", 4},
                          {"max_value", 12},
                          {"schedule_type", "fixed_linear"},
                          {"schedule_config", {{"require_steps", 6}, {"seq_per_step", 1}}}}}}}}}}}},
                 4, {"random_ltd_kept"});
}

Json technique(Json shared, const Json& params, const char* modules) {
    shared["enabled"] = true;
    return {{"shared_parameters", shared}, {"different_groups", {{"g", {{"params", params}, {"modules", {modules}}}}}}};
}
void compression(Player& p) {
    const Json feature = {
        {"compression_training",
         {{"sparse_pruning", technique({{"method", "l1"}, {"schedule_offset", 1}}, {{"dense_ratio", 0.5}}, "attention.output.dense")},
          {"row_pruning", technique({{"method", "topk"}, {"schedule_offset", 0}}, {{"dense_ratio", 0.75}}, "intermediate.dense")},
          {"weight_quantization", technique({{"schedule_offset", 2}}, {{"start_bits", 8}, {"target_bits", 4}}, "self.query")}}}};
    ds_engine* e = nullptr;
    must(ds_engine_create(p.config_of("bert-sentiment", feature).dump().c_str(), nullptr, &e), "create");
    p.train(e, 3, {});
    must(ds_save(e, p.out.c_str(), "saved", nullptr), "save");
    p.train(e, 1, {});
    must(ds_load(e, p.out.c_str(), "saved", nullptr), "load");
    p.train(e, 1, {});
    must(ds_export(e, (p.out + "/export").c_str(), nullptr), "export");
    ds_engine_destroy(e);
    const std::string exported = text_of(p.out + "/export/model.safetensors");
    p.tell("export", {exported.size(), std::hash<std::string>()(exported)});
}

ds_batch* batch_of(const std::vector<Ids>& rows) {
    size_t longest = 0;
    for (const Ids& row : rows) longest = std::max(longest, row.size());
    const int64_t shape[2] = {static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest)};
    Ids ids, labels;
    for (const Ids& row : rows)
        for (size_t i = 0; i < longest; ++i) ids.push_back(i < row.size() ? row[i] : 0), labels.push_back(i < row.size() ? row[i] : -100);
    Ids mask;
    for (const int32_t label : labels) mask.push_back(label >= 0);
    ds_batch* b = nullptr;
    must(ds_batch_create(&b), "batch");
    for (const auto& [name, data] : {std::pair{"input_ids", &ids}, {"labels", &labels}, {"attention_mask", &mask}}) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, 2, shape, data->data(), data->size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    }
    return b;
}
Ids some_ids(int length, int start) {
    Ids ids;
    for (int i = 0; i < length; ++i) ids.push_back((i * i * 7 + i * 13 + start * 31 + 5) % 97);
    return ids;
}
// The rows of this process, of those that all data ranks have together.
std::vector<Ids> own(const std::vector<Ids>& rows, const Player& p) {
    const int data = p.more["parallel"].value("data", 1), processes = size_here();
    if (processes == 1 || data == 1) return rows;
    const size_t each = rows.size() / static_cast<size_t>(data), mine = static_cast<size_t>(rank_here() * data / processes);
    return {rows.begin() + static_cast<std::ptrdiff_t>(each * mine), rows.begin() + static_cast<std::ptrdiff_t>(each * (mine + 1))};
}

// The limit makes all ranks compute the same again, though their rows differ; too little is told to all.
void memory_limits(Player& p) {
    Json feature = {{"max_seq_length", 32}, {"train_micro_batch_size_per_gpu", 4}};
    const auto total = [&](int recompute) {
        char* text = nullptr;
        feature["recompute"] = recompute;
        must(ds_plan(p.config_of("gpt2", feature).dump().c_str(), nullptr, &text), "plan");
        const auto bytes = Json::parse(text)["memory_bytes"]["total"].get<int64_t>();
        ds_free(text);
        return bytes;
    };
    const int64_t most = total(0), least = total(2);
    double kept_bytes = 0;
    for (const bool limited : {false, true}) {
        feature["recompute"] = limited ? Json("auto") : Json(0);
        feature["memory_limit"] = limited ? least + (most - least) / 3 : 0;
        ds_engine* e = nullptr;
        must(ds_engine_create(p.config_of("gpt2", feature).dump().c_str(), nullptr, &e), "create");
        for (int step = 0; step < 3; ++step) {
            std::vector<Ids> rows;
            const int count = 4 * p.more["parallel"].value("data", 1);
            for (int i = 0; i < count; ++i) rows.push_back(some_ids(step == 1 ? 32 - 3 * i : 32, step * 8 + i));
            ds_batch* b = batch_of(own(rows, p));
            float loss = 0;
            must(ds_forward(e, b, &loss), "forward");
            must(ds_backward(e), "backward");
            must(ds_step(e), "step");
            p.tell("loss", loss);
            ds_batch_destroy(b);
        }
        double bytes = 0;
        must(ds_metric(e, "plan_bytes", &bytes), "plan_bytes");
        p.weights(e);
        if (limited) p.tell("less memory", bytes < kept_bytes);
        kept_bytes = bytes;
        ds_engine_destroy(e);
    }
    feature["memory_limit"] = least / 20;
    ds_engine* e = nullptr;
    p.tell(ds_engine_create(p.config_of("gpt2", feature).dump().c_str(), nullptr, &e));
}

void gradients_of_outputs(Player& p) {
    ds_engine* e = nullptr;
    must(ds_engine_create(p.config_of("gpt2", {{"outputs", {"logits"}}}).dump().c_str(), nullptr, &e), "create");
    dsrt::Batch rows, gradients;
    rows.set("input_ids", {2, 4}, std::vector<int64_t>{5, 6, 7, 8, 9, 10, 11, 12});
    std::vector<float> slopes(2 * 4 * 97);
    for (size_t i = 0; i < slopes.size(); ++i) slopes[i] = static_cast<float>(i % 13) - 6;
    gradients.set("logits", {2, 4, 97}, slopes);
    for (int i = 0; i < 2; ++i) {
        must(ds_forward(e, rows.get(), nullptr), "forward");
        must(ds_backward_from(e, gradients.get()), "backward_from");
        must(ds_step(e), "step");
        p.metrics(e, {"grad_norm"});
    }
    p.weights(e);
    ds_engine_destroy(e);
}

struct Ear {
    Json heard = Json::array();
    size_t limit = 0;  // of ids of row 0; 0: none
    size_t first_row = 0;
};
int32_t hear(size_t row, const int32_t* ids, size_t n, void* user) {
    Ear& ear = *static_cast<Ear*>(user);
    for (size_t i = 0; i < n; ++i) ear.heard.push_back({row, ids[i]});
    ear.first_row += row == 0 ? n : 0;
    return row == 0 && ear.limit && ear.first_row >= ear.limit;
}

void generate(Player& p, ds_engine* e, const std::vector<Ids>& prompts, const Json& options, size_t limit) {
    Ids all, lengths_of;
    std::vector<size_t> lengths;
    for (const Ids& prompt : prompts) all.insert(all.end(), prompt.begin(), prompt.end()), lengths.push_back(prompt.size());
    Ear ear;
    ear.limit = is_last() ? limit : 0;  // one process listens for all
    int32_t* ids = nullptr;
    size_t* counts = nullptr;
    must(ds_generate_batch(e, all.data(), lengths.data(), prompts.size(), options.dump().c_str(), hear, &ear, &ids, &counts), "generate");
    Json made = Json::array();
    for (size_t r = 0, at = 0; r < prompts.size(); at += counts[r++]) made.push_back(Ids(ids + at, ids + at + counts[r]));
    p.tell(options.dump(), made);
    p.tell("heard", ear.heard);
    ds_free(ids);
    ds_free(counts);
}
void generation(Player& p) {
    const Json shared = {{"bf16", {{"enabled", true}}}, {"zero_optimization", {{"stage", 1}}}};  // weights that are read come in parts
    for (const auto& [model, feature] : {std::pair{"gpt2", Json::object()}, {"t5-translation", Json::object()}, {"llama", shared}}) {
        if (feature == shared && p.more["parallel"].contains("tensor")) continue;  // rounds elsewhere
        ds_engine* e = nullptr;
        must(ds_engine_create(p.config_of(model, feature).dump().c_str(), nullptr, &e), "create");
        const std::vector<Ids> prompts{some_ids(5, 1), some_ids(9, 2), some_ids(1, 3)};
        for (const Json& options :
             {Json{{"max_new_tokens", 6}, {"eos_token_id", -1}}, Json{{"max_new_tokens", 6}, {"eos_token_id", -1}, {"use_cache", false}},
              Json{{"max_length", 12}, {"temperature", 1.5}, {"seed", 7}}, Json{{"max_new_tokens", 5}, {"num_beams", 3}}})
            generate(p, e, prompts, options, 0);
        generate(p, e, prompts, {{"max_new_tokens", 6}, {"eos_token_id", -1}}, 2);           // row 0 is ended
        generate(p, e, {some_ids(4, 9)}, {{"max_new_tokens", 4}, {"eos_token_id", -1}}, 0);  // fewer prompts than processes
        generate(p, e, {some_ids(4, 9)}, {{"max_new_tokens", 4}, {"use_cache", false}}, 0);
        ds_engine_destroy(e);
    }
}

void evaluate(Player& p, ds_engine* e, const std::string& data, const Json& options = Json::object()) {
    char* scores = nullptr;
    Json all = options;
    all["predictions"] = p.out + ".predictions";
    must(ds_evaluate(e, data.c_str(), all.dump().c_str(), &scores), "evaluate");
    p.told += scores + std::string("\n") + text_of(p.out + ".predictions");
    ds_free(scores);
}
void evaluation(Player& p) {
    const std::string rows = kData + "/config_live.jsonl";
    ds_engine* e = nullptr;
    must(ds_engine_create(p.config_of("bert-sentiment", Json::object()).dump().c_str(), nullptr, &e), "create");
    evaluate(p, e,
             R"({"files": [")" + rows + R"("], "task": "sequence_classification", "columns": {"input_ids": "ids", "label": "label"}})");
    ds_engine_destroy(e);
    must(ds_engine_create(p.config_of("gpt2", Json::object()).dump().c_str(), nullptr, &e), "create");
    evaluate(p, e, R"({"files": [")" + rows + R"("], "task": "causal", "columns": {"input_ids": "ids"}})");
    ds_engine_destroy(e);
    const std::string tokenizer = kData + "/tasks/t5-tokenizer.json";
    const Json t5 = {{"model_type", "t5"},
                     {"architectures", {"T5ForConditionalGeneration"}},
                     {"vocab_size", 135},
                     {"d_model", 16},
                     {"d_kv", 8},
                     {"d_ff", 32},
                     {"num_layers", 1},
                     {"num_heads", 2},
                     {"dropout_rate", 0.0},
                     {"feed_forward_proj", "relu"},
                     {"tie_word_embeddings", true},
                     {"pad_token_id", 0},
                     {"eos_token_id", 1},
                     {"decoder_start_token_id", 0}};
    must(ds_engine_create(p.config_of("", {{"model", t5}, {"tokenizer", tokenizer}}).dump().c_str(), nullptr, &e), "create");
    evaluate(p, e,
             R"({"files": [")" + kData + R"(/tasks/translation.tsv"], "columns": {"source": "source", "target": "target"}, "limit": 5})",
             {{"generate", {{"max_new_tokens", 4}}}});
    ds_engine_destroy(e);
}

struct Entry {
    const char* name;
    Play play;
};
const Entry kPlays[] = {{"growing_batches", growing_batches}, {"noise_scales", noise_scales},
                        {"easy_rows_first", easy_rows_first}, {"batches_by_tokens", batches_by_tokens},
                        {"skipped_work", skipped_work},       {"compression", compression},
                        {"memory_limits", memory_limits},     {"generation", generation},
                        {"evaluation", evaluation},           {"gradients_of_outputs", gradients_of_outputs}};

// Rates, labels and gradients that one process alone has.
void differ(Player& p) {
    const bool other = rank_here() == 1;
    ds_engine* e = nullptr;
    must(ds_engine_create(p.config_of("gpt2", {{"outputs", {"logits"}}}).dump().c_str(), nullptr, &e), "create");
    p.tell_why(ds_engine_set(e, "optimizer.params.lr", other ? "0.5" : "0.25"));
    const std::vector<int64_t> ids(8, 7);
    dsrt::Batch with, without, right, wrong;
    with.set("input_ids", {2, 4}, ids).set("labels", {2, 4}, ids);
    without.set("input_ids", {2, 4}, ids);
    right.set("logits", {2, 4, 97}, std::vector<float>(2 * 4 * 97, 0.1f));
    wrong.set("logits", {2, 4, 96}, std::vector<float>(2 * 4 * 96, 0.1f));
    p.tell_why(ds_forward(e, (other ? without : with).get(), nullptr));
    p.tell_why(ds_forward(e, with.get(), nullptr));
    p.tell_why(ds_backward_from(e, (other ? wrong : right).get()));
    p.tell_why(ds_backward_from(e, right.get()));
    p.tell_why(ds_step(e));
    ds_engine_destroy(e);
}

// What processes that do not ask for the same say; the engine is of use afterwards.
void quarrel(const std::string& out) {
    Player p{{{"parallel", {{"data", 2}}}}, out, ""};
    ds_engine* e = nullptr;
    must(ds_engine_create(p.config_of("gpt2", Json::object()).dump().c_str(), nullptr, &e), "create");
    const auto ask = [&](const Ids& prompt, ds_token_fn listener) {
        int32_t* ids = nullptr;
        size_t n = 0;
        const ds_status status =
            ds_generate(e, prompt.data(), prompt.size(), R"({"max_new_tokens": 3, "eos_token_id": -1})", listener, nullptr, &ids, &n);
        p.tell_why(status);
        ds_free(ids);
    };
    const bool other = rank_here() == 1;
    ask(some_ids(3, other), nullptr);
    ask(other ? Ids{1000} : some_ids(3, 0), nullptr);
    ask(some_ids(3, 0), other ? ds_token_fn([](const int32_t*, size_t, void*) { return -7; }) : nullptr);
    ask(some_ids(3, 0), nullptr);
    ds_engine_destroy(e);
    differ(p);
    for (const char* how : {"FAIL", "WARN", "IGNORE"}) {  // of different tags
        must(ds_engine_create(p.config_of("gpt2", {{"checkpoint", {{"tag_validation", how}}}}).dump().c_str(), nullptr, &e), "create");
        const ds_status status = ds_save(e, (out + ".saved").c_str(), (how + std::to_string(rank_here())).c_str(), nullptr);
        p.tell_why(status);
        must(ds_load(e, (out + ".saved").c_str(), status < 0 ? "none" : nullptr, nullptr) == (status < 0 ? DS_E_NOT_FOUND : DS_OK)
                 ? DS_OK
                 : DS_E_INTERNAL,
             "load");
        ds_engine_destroy(e);
    }
    std::ofstream(out + "." + std::to_string(rank_here())) << p.told;
}

std::string self, work;

job::Job start(int n, const std::vector<std::string>& words) {
    const int port = job::free_ports();
    return job::start(
        n,
        [&](int) {
            std::vector<std::string> argv{self};
            argv.insert(argv.end(), words.begin(), words.end());
            return argv;
        },
        [&](int r) { return n == 1 ? job::Variables{} : job::torchrun(r, n, port); });
}

void same_as_one(const std::string& play, int processes, const Json& layout) {
    const std::string name = play + " in " + std::to_string(processes) + " processes, " + layout.dump(), one = work + "/one",
                      many = work + "/many";
    const int before = failed;
    job::Job alone = start(1, {play, layout.dump(), one}), job = start(processes, {play, layout.dump(), many});
    const bool one_ends = alone.wait(), all_end = job.wait();
    check(one_ends && alone.all_well(), name + ": one process:" + alone.states());
    check(all_end && job.all_well(), name + ": several:" + job.states());
    const std::string expected = text_of(one + ".0");
    check(!expected.empty(), name + ": one process tells nothing");
    for (int r = 0; r < processes; ++r) {
        const std::string told = text_of(many + "." + std::to_string(r));
        size_t at = 0;
        while (at < told.size() && at < expected.size() && told[at] == expected[at]) ++at;
        check(told == expected, name + ": process " + std::to_string(r) + " tells \"" + told.substr(at - std::min<size_t>(at, 60), 160) +
                                    "\" where one tells \"" + expected.substr(at - std::min<size_t>(at, 60), 160) + "\"");
    }
    if (failed == before) std::printf("%s: the same\n", name.c_str());
    for (const auto& entry : fs::directory_iterator(work)) fs::remove_all(entry.path());
}

void quarrels_are_told() {
    job::Job job = start(2, {"quarrel", "", work + "/quarrel"});
    const bool all_end = job.wait();
    check(all_end && job.all_well(), "quarrel:" + job.states());
    const char* const lines[2] = {
        "DS_E_INVALID_ARGUMENT ds_generate: the processes 0 and 1 were given different prompts or options; all must pass the same\n"
        "DS_E_COMM process 1: DS_E_INVALID_ARGUMENT: ds_generate: id 0 of the prompt is 1000, outside the vocabulary 0..96\n"
        "DS_E_COMM process 1: DS_E_USER: ds_generate: the token callback answered -7\nDS_OK \n",
        "DS_E_INVALID_ARGUMENT ds_generate: the processes 0 and 1 were given different prompts or options; all must pass the same\n"
        "DS_E_INVALID_ARGUMENT ds_generate: id 0 of the prompt is 1000, outside the vocabulary 0..96\nDS_E_USER "};
    check(!fs::exists(work + "/quarrel.saved/FAIL0") && fs::exists(work + "/quarrel.saved/WARN0") &&
              fs::exists(work + "/quarrel.saved/IGNORE0") && !fs::exists(work + "/quarrel.saved/WARN1"),
          "quarrel: tags of process 0 alone are saved");
    for (int r = 0; r < 2; ++r) {
        const std::string told = text_of(work + "/quarrel." + std::to_string(r));
        const std::string differing =
            "DS_E_INVALID_ARGUMENT ds_engine_set: process 1 asks for optimizer.params.lr = 0.5, "
            "but process 0 for optimizer.params.lr = 0.25: all must ask for the same\n"
            "DS_E_INVALID_ARGUMENT ds_forward: the rows of data rank 0 have labels, but those of data rank 1 have none\nDS_OK \n" +
            std::string(r ? "DS_E_INVALID_ARGUMENT " : "DS_E_COMM process 1: DS_E_INVALID_ARGUMENT: ");
        check(told.find(differing) != std::string::npos && told.find("DS_OK \nDS_OK \nDS_", told.find(differing)) != std::string::npos,
              "quarrel: process " + std::to_string(r) + " says of what one has alone " + told);
        check(told.starts_with(lines[r]) && told.ends_with("DS_OK \nDS_E_INVALID_ARGUMENT ds_save: process 1 names the tag \"FAIL1\", "
                                                           "process 0 \"FAIL0\"; all must name the same (checkpoint.tag_validation)\n"
                                                           "DS_OK \nDS_OK \n"),
              "quarrel: process " + std::to_string(r) + " says " + told);
    }
}

}  // namespace

int main(int argc, char** argv) {
    self = fs::canonical("/proc/self/exe").string();
    if (argc == 4) {
        const std::string what = argv[1], out = argv[3];
        if (what == "quarrel") return quarrel(out), 0;
        for (const auto& [name, play] : kPlays)
            if (what == name) {
                Player p{Json::parse(argv[2]), out, ""};
                play(p);
                std::ofstream(out + "." + std::to_string(rank_here())) << p.told;
                return failed ? 4 : 0;
            }
        return 2;
    }
    if (!Json::parse(ds_build_info())["optional"]["gloo"]["found"].get<bool>()) {
        std::puts("SKIPPED calls of several processes: libdsrt_gloo.so is not built here\n0 passed, 0 failed");
        return 0;
    }
    work = (fs::temp_directory_path() / "dsrt-job-XXXXXX").string();
    if (!mkdtemp(work.data())) return 1;
    const Json data = {{"parallel", {{"data", 2}}}}, tensor = {{"parallel", {{"tensor", 2}}}};
    const std::string only = argc > 1 ? argv[1] : "";
    for (const auto& [name, play] : kPlays) {
        if (!only.empty() && only != name) continue;
        if (name == std::string("gradients_of_outputs")) {  // of rows that all processes are given
            same_as_one(name, 4, {{"parallel", {{"tensor", 2}, {"pipeline", 2}}}});
            continue;
        }
        same_as_one(name, 2, data);
        if (name == std::string("generation") || name == std::string("memory_limits") || std::getenv("DSRT_FULL"))
            same_as_one(name, 2, tensor);
        if (name == std::string("compression")) continue;  // not for ZeRO 3
        if (name == std::string("noise_scales") || name == std::string("generation") || std::getenv("DSRT_FULL"))
            same_as_one(name, 2,
                        {{"parallel", {{"data", 2}}}, {"zero_optimization", {{"stage", 3}, {"stage3_param_persistence_threshold", 0}}}});
        if (std::getenv("DSRT_FULL")) same_as_one(name, 4, {{"parallel", {{"data", 2}, {"tensor", 2}}}});
    }
    if (only.empty() || only == "quarrel") quarrels_are_told();
    fs::remove_all(work);
    return checks::result();
}
