// Expert parallelism through the public ABI: each data rank of a group holds its experts only, in what it allocates, plans and sends;
// numbers, files and generated text are those of one rank, also where experts don't divide evenly, with every ZeRO stage, offload, frozen
// experts and whole-tensor optimizers.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "support/training.h"

namespace {

using ds::Json;
using namespace training;

constexpr int64_t kVocabulary = 97, kLength = 9;

// Every expert has three matrices of hidden x inner.
Json mixtral(int64_t experts, int64_t hidden = 32, int64_t inner = 40) {
    return {{"model_type", "mixtral"},       {"architectures", {"MixtralForCausalLM"}},
            {"hidden_size", hidden},         {"intermediate_size", inner},
            {"num_hidden_layers", 2},        {"num_attention_heads", 4},
            {"num_key_value_heads", 2},      {"vocab_size", kVocabulary},
            {"max_position_embeddings", 32}, {"num_local_experts", experts},
            {"num_experts_per_tok", 2},      {"output_router_logits", true},
            {"router_aux_loss_coef", 0.02}};
}

Json base(const Json& model, Json more) {
    Json config = {{"model", model},
                   {"threads", 1},
                   {"gradient_clipping", 0.5},
                   {"gradient_accumulation_steps", 2},
                   {"max_seq_length", kLength},
                   {"logger", {{"default_verbosity", "ERROR"}}},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}}};
    config.merge_patch(more);
    const Json mesh = config.value("parallel", Json::object());
    config["train_micro_batch_size_per_gpu"] = 4 / mesh.value("data", 1);
    return config;
}

// every: which labels count.
ds_batch* batch_of(int number, size_t every = 1) {
    ds_batch* b = nullptr;
    must(ds_batch_create(&b), "batch");
    std::vector<int32_t> ids(4 * kLength);
    for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<int32_t>((i * 7919 + static_cast<size_t>(number) * 104729 + i * i * 31) % kVocabulary);
    const int64_t grid[2] = {4, kLength};
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, 2, grid, ids.data(), ids.size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
        for (size_t i = 0; i < ids.size(); ++i)
            if (i % every != 1 % every) ids[i] = -100;  // the first token has one
    }
    return b;
}

Numbers train(const Engine& engine, int steps, size_t every = 1) {
    Numbers losses;
    for (int i = 0; i < 2 * steps; ++i) {
        ds_batch* b = batch_of(i, every);
        losses.push_back(engine.step(b));
        ds_batch_destroy(b);
    }
    return losses;
}

Numbers parameters(const Engine& engine) {
    Numbers all;
    for (const std::string& name : engine.names()) {
        const Numbers one = engine.param(name);
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

Json plan_of(const Json& config) {
    char* text = nullptr;
    must(ds_plan(config.dump().c_str(), nullptr, &text), "plan");
    const Json plan = text ? Json::parse(text) : Json();
    ds_free(text);
    return plan;
}

Json on(int data, int expert, int stage = 0) {
    return {{"parallel", {{"data", data}, {"expert", expert}}},
            {"zero_optimization", {{"stage", stage}, {"reduce_bucket_size", 20000}, {"stage3_param_persistence_threshold", 0}}}};
}

// The most that a process had resident while it trained two steps; in a process of its own, before this one has threads.
double peak_bytes(const Json& config) {
    const pid_t child = fork();
    if (child == 0) {
        const Engine engine(config);
        train(engine, 2);
        std::_Exit(checks::failed ? 1 : 0);
    }
    int state = 0;
    rusage used{};
    check(child > 0 && wait4(child, &state, 0, &used) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0, "a process that trains");
    return static_cast<double>(used.ru_maxrss) * 1024;
}

// Weights, gradients and two moments in f32.
void memory_falls() {
    constexpr double experts = 2 * 4 * 3 * 128.0 * 2048;
    const Json model = mixtral(4, 128, 2048);
    const double whole = peak_bytes(base(model, on(2, 1))), dealt = peak_bytes(base(model, on(2, 2)));
    std::printf("two ranks of one process: %.0f MB with all experts on each, %.0f MB with half of them\n", whole / 1e6, dealt / 1e6);
    check(whole - dealt > 0.8 * 16 * experts, "experts that lie on one of two ranks save " + std::to_string((whole - dealt) / 1e6) +
                                                  " MB, not " + std::to_string(16 * experts / 1e6));
}

// One step's bytes of one rank in a plan, and of all ranks as they were sent.
void plans_and_traffic() {
    constexpr double experts = 2 * 4 * 3 * 32.0 * 40;  // matrices of whole 32s
    for (const int stage : {0, 2}) {
        double sums[3], kept[3];
        for (const int expert : {1, 2}) {
            const Json config = base(mixtral(4), on(2, expert, stage)), plan = plan_of(config);
            const Json bytes = plan["memory_bytes"];
            kept[expert] = bytes["weights"].get<double>() + bytes["gradients"].get<double>() + bytes["optimizer_state"].get<double>();
            const Engine engine(config);
            train(engine, 1);
            sums[expert] = engine.metric("bytes_all_reduce") + engine.metric("bytes_reduce_scatter");
            const double rows = engine.metric("bytes_all_to_all"),
                         planned = plan["traffic"].contains("all_to_all") ? plan["traffic"]["all_to_all"]["bytes"].get<double>() : 0;
            check(expert == 1 ? rows == 0 && planned == 0 : rows > planned && rows < 3 * planned,
                  "rows of experts take " + std::to_string(rows) + " bytes on two ranks, planned " + std::to_string(planned) + " on one");
        }
        // Stage 0: a sum for all is as many elements from each of two ranks. Stage 2: half as many, once a micro-batch, and state and
        // gradients in halves already.
        const double sent = 2 * 4 * experts, held = stage == 0 ? 16 * experts / 2 : 4 * experts / 2;
        check(sums[1] - sums[2] == sent, "stage " + std::to_string(stage) + ": gradients of experts that lie on one rank: " +
                                             std::to_string(sums[1] - sums[2]) + " bytes fewer, not " + std::to_string(sent));
        check(std::fabs(kept[1] - kept[2] - held) <= 0.01 * held, "stage " + std::to_string(stage) + ": a rank keeps " +
                                                                      std::to_string(kept[1] - kept[2]) + " bytes less, not " +
                                                                      std::to_string(held));
    }
}

struct Run {
    Numbers losses, weights;
};

Run run(const Json& config, size_t every = 1) {
    const Engine engine(config);
    Run r{train(engine, 3, every), {}};
    r.weights = parameters(engine);
    return r;
}

void same_numbers(const std::string& what, const Json& one, const std::vector<std::pair<std::string, Json>>& layouts) {
    const Run alone = run(base(mixtral(5), one));
    for (const auto& [name, layout] : layouts) {
        Json more = one;
        more.merge_patch(layout);
        const Run many = run(base(mixtral(5), more));
        const double losses = distance(many.losses, alone.losses, 1e-30), weights = distance(many.weights, alone.weights, 1e-30);
        std::printf("%-18s %-38s losses %.1e weights %.1e\n", what.c_str(), name.c_str(), losses, weights);
        check(losses <= 1e-5 && weights <= 1e-3,
              what + ", " + name + ": losses " + std::to_string(losses) + ", weights " + std::to_string(weights));
    }
}

// Where few tokens have labels, only those go through the head, filled up with the first token: the experts' gradients are those of all
// tokens.
void few_labels() {
    for (const size_t every : {2, 3, 17}) {
        const Run whole = run(base(mixtral(5), {{"outputs", {"logits"}}}), every), few = run(base(mixtral(5), Json::object()), every);
        const double losses = distance(few.losses, whole.losses, 1e-30), weights = distance(few.weights, whole.weights, 1e-30);
        check(losses <= 1e-5 && weights <= 1e-3,
              "one label in " + std::to_string(every) + ": losses " + std::to_string(losses) + ", weights " + std::to_string(weights));
    }
}

// Five experts on two ranks: two and three.
void uneven_experts() {
    std::vector<std::pair<std::string, Json>> layouts;
    for (int stage = 0; stage <= 3; ++stage)
        for (const int data : {2, 4})
            layouts.emplace_back("data " + std::to_string(data) + ", expert 2, stage " + std::to_string(stage), on(data, 2, stage));
    for (const char* key : {"stage3_max_reuse_distance", "stage3_max_live_parameters"})  // ranks must still gather alike
        for (const int64_t elements : {3000, 12000}) {
            Json layout = on(4, 2, 3);
            layout["zero_optimization"][key] = elements;
            layouts.emplace_back(std::string(key) + " " + std::to_string(elements), layout);
        }
    same_numbers("AdamW", Json::object(), layouts);
}

void other_ways() {
    const Json adafactor = {{"optimizer", {{"type", "Adafactor"}, {"params", {{"lr", 1e-3}}}}}},
               frozen = {{"param_groups", {{{"match", {"*experts.1.*", "*experts.4.*", "*embed*"}}, {"frozen", true}}}}};
    same_numbers("Adafactor", adafactor, {{"data 2, expert 2", on(2, 2)}, {"data 4, expert 2, stage 1", on(4, 2, 1)}});
    same_numbers("frozen experts", frozen, {{"data 2, expert 2, stage 1", on(2, 2, 1)}, {"data 4, expert 2, stage 3", on(4, 2, 3)}});
    const Folder disk;
    const Json there = {{"device", "nvme"}, {"nvme_path", disk.path.string()}, {"max_in_cpu", 0}};
    std::vector<std::pair<std::string, Json>> layouts;
    for (const int data : {2, 4})
        for (const char* what : {"offload_param", "offload_optimizer"}) {
            Json layout = on(data, 2, 3);
            layout["zero_optimization"][what] = there;
            if (std::string(what) == "offload_optimizer") layout["zero_optimization"][what].erase("max_in_cpu");
            layouts.emplace_back(std::string(what) + ", data " + std::to_string(data) + ", expert 2", layout);
        }
    same_numbers("on disk", Json::object(), layouts);
}

// Exported by ranks that hold parts, loaded by one that holds all; and the same text.
void files_and_text() {
    const Folder folder;
    const std::string exported = (folder.path / "export").string();
    const Json mesh = on(2, 2);
    const Engine dealt(base(mixtral(5), mesh));
    train(dealt, 1);
    must(ds_export(dealt.e, exported.c_str(), nullptr), "export");
    const Engine one(base(exported, Json::object()));
    check(parameters(dealt) == parameters(one), "an exported folder has other weights");
    const std::vector<int32_t> prompt{5, 17, 40, 3};
    std::vector<int32_t> made[2];
    for (ds_engine* of : {dealt.e, one.e}) {
        int32_t* ids = nullptr;
        size_t n = 0;
        must(ds_generate(of, prompt.data(), prompt.size(), R"({"max_new_tokens": 6})", nullptr, nullptr, &ids, &n), "generate");
        made[of == one.e].assign(ids, ids + n);
        ds_free(ids);
    }
    check(!made[0].empty() && made[0] == made[1], "dealt out experts continue a prompt otherwise");
}

void refusals() {
    ds_engine* e = nullptr;
    check(ds_engine_create(base(mixtral(3), on(4, 4)).dump().c_str(), nullptr, &e) == DS_E_CONFIG &&
              std::string(ds_last_error()).find("parallel.expert: 4 ranks are more than 3 experts") != std::string::npos,
          std::string("four ranks of three experts: ") + ds_last_error());
    check(ds_engine_create(base(mixtral(3), on(4, 3)).dump().c_str(), nullptr, &e) == DS_E_CONFIG &&
              std::string(ds_last_error()).find("expert 3 must divide data 4") != std::string::npos,
          std::string("three of four ranks: ") + ds_last_error());
}

}  // namespace

int main() {
    memory_falls();
    plans_and_traffic();
    few_labels();
    uneven_experts();
    other_ways();
    files_and_text();
    refusals();
    return checks::result();
}
