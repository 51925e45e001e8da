// Plans of models that this machine could not hold, on up to 64 data ranks: memory and traffic of each ZeRO stage against the published
// formulas (arXiv 1910.02054, sections 5 and 7). Psi parameters on N ranks; nothing is allocated and nothing runs.
#include <dsrt/dsrt.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdio>
#include <string>

#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check;
using ds::Json;

void near(double found, double wanted, double slack, const std::string& what) {
    check(std::fabs(found - wanted) <= slack * std::fabs(wanted), what + ": " + std::to_string(found) + ", not " + std::to_string(wanted));
}

struct Model {
    std::string name;
    Json config;
    double psi;   // parameters, as published
    double wide;  // of these, read in f32 whatever the precision: embeddings and norms
    double once;  // gathered once a micro-batch in stage 3: embeddings, whose gradients do not need them, and a head of its own, used again
                  // at once
};

void plans_of(const Model& model, bool low, int ranks, int stage) {
    const Json config = {
        {"model", model.config},
        {"threads", 1},
        {"train_micro_batch_size_per_gpu", 1},
        {"gradient_accumulation_steps", 1},
        {"max_seq_length", 64},
        {"parallel", {{"data", ranks}}},
        {"bf16", {{"enabled", low}}},
        {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}},
        {"logger", {{"default_verbosity", "ERROR"}}},
        {"zero_optimization", {{"stage", stage}, {"stage3_max_reuse_distance", 0}, {"stage3_param_persistence_threshold", 0}}}};
    const std::string what =
        model.name + (low ? " bf16" : " f32") + ", " + std::to_string(ranks) + " ranks, stage " + std::to_string(stage) + ": ";
    char* text = nullptr;
    if (ds_plan(config.dump().c_str(), nullptr, &text) < 0) return check(false, what + ds_last_error());
    const Json plan = Json::parse(text);
    ds_free(text);
    const Json bytes = plan["memory_bytes"];
    const double psi = model.psi, n = ranks, apart = (n - 1) / n;
    near(plan["parameters"].get<double>(), psi, 0.002, what + "parameters");
    check(plan["trained_parameters"] == plan["parameters"], what + "trained parameters");
    near(plan["updated_parameters"].get<double>(), psi / (stage >= 1 ? n : 1), 0.005, what + "updated parameters");
    // In mixed precision the master weights are part of what stage 1 deals out, but for those that are read in f32.
    const double weights = stage >= 3 ? 4 * psi / n : low && stage >= 1 ? 4 * ((psi - model.wide) / n + model.wide) : 4 * psi;
    near(bytes["weights"].get<double>(), weights, 0.005, what + "weights");
    near(bytes["gradients"].get<double>(), 4 * psi / (stage >= 2 ? n : 1), 0.005, what + "gradients");
    near(bytes["optimizer_state"].get<double>(), 8 * psi / (stage >= 1 ? n : 1), 0.005, what + "state");
    if (low) near(bytes["low_precision_weights"].get<double>(), 2 * (psi - model.wide) / (stage >= 3 ? n : 1), 0.005, what + "low weights");
    if (low) return;  // volumes in mixed precision: tests/train/zero.cpp
    const double sent = stage >= 3 ? (3 * psi - model.once) * 4 : 2 * psi * 4;
    near(plan["traffic_bytes_per_step"].get<double>(), sent * apart, 0.01, what + "traffic");
    std::printf("%-60s a rank: %.3g GB stays, %.3g GB sent\n", what.c_str(),
                (bytes["weights"].get<double>() + bytes["gradients"].get<double>() + bytes["optimizer_state"].get<double>()) / 1e9,
                plan["traffic_bytes_per_step"].get<double>() / 1e9);
}

// Mixtral 8x7B on 16 data ranks, groups of 8 of which deal out the experts: a rank holds what all share and an eighth of the experts, with
// gradients and state; ZeRO deals out what all share over 16 ranks and the experts over the two that have the same.
void experts_are_dealt_out(int stage) {
    const double per_expert = 3 * 4096.0 * 14336, experts = 32 * 8 * per_expert, shared = 46702792704.0 - experts, held = experts / 8;
    const Json config = {{"model",
                          {{"model_type", "mixtral"},
                           {"architectures", {"MixtralForCausalLM"}},
                           {"num_hidden_layers", 32},
                           {"hidden_size", 4096},
                           {"intermediate_size", 14336},
                           {"num_attention_heads", 32},
                           {"num_key_value_heads", 8},
                           {"vocab_size", 32000},
                           {"max_position_embeddings", 4096},
                           {"num_local_experts", 8},
                           {"num_experts_per_tok", 2},
                           {"tie_word_embeddings", false}}},
                         {"threads", 1},
                         {"train_micro_batch_size_per_gpu", 1},
                         {"gradient_accumulation_steps", 1},
                         {"max_seq_length", 64},
                         {"parallel", {{"data", 16}, {"expert", 8}}},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}},
                         {"logger", {{"default_verbosity", "ERROR"}}},
                         {"zero_optimization", {{"stage", stage}, {"stage3_param_persistence_threshold", 0}}}};
    const std::string what = "Mixtral 8x7B, 16 ranks, expert 8, stage " + std::to_string(stage) + ": ";
    char* text = nullptr;
    if (ds_plan(config.dump().c_str(), nullptr, &text) < 0) return check(false, what + ds_last_error());
    const Json plan = Json::parse(text), bytes = plan["memory_bytes"];
    ds_free(text);
    const auto dealt = [&](int from) { return stage >= from ? shared / 16 + held / 2 : shared + held; };
    near(plan["parameters"].get<double>(), shared + experts, 0.0005, what + "parameters");
    near(bytes["weights"].get<double>(), 4 * dealt(3), 0.005, what + "weights");
    near(bytes["gradients"].get<double>(), 4 * dealt(2), 0.005, what + "gradients");
    near(bytes["optimizer_state"].get<double>(), 8 * dealt(1), 0.005, what + "state");
    std::printf("%-60s a rank: %.3g GB stays\n", what.c_str(),
                (bytes["weights"].get<double>() + bytes["gradients"].get<double>() + bytes["optimizer_state"].get<double>()) / 1e9);
}

}  // namespace

int main() {
    const Model gpt2 = {"GPT-2 1.5B",
                        {{"model_type", "gpt2"},
                         {"architectures", {"GPT2LMHeadModel"}},
                         {"n_layer", 48},
                         {"n_embd", 1600},
                         {"n_head", 25},
                         {"vocab_size", 50257},
                         {"n_positions", 1024}},
                        1557611200,
                        50257 * 1600.0 + 1024 * 1600.0,
                        1024 * 1600.0};
    const Model llama = {"LLaMA-8B",
                         {{"model_type", "llama"},
                          {"architectures", {"LlamaForCausalLM"}},
                          {"num_hidden_layers", 32},
                          {"hidden_size", 4096},
                          {"intermediate_size", 14336},
                          {"num_attention_heads", 32},
                          {"num_key_value_heads", 8},
                          {"vocab_size", 128256},
                          {"max_position_embeddings", 8192},
                          {"tie_word_embeddings", false}},
                         8030261248,
                         128256 * 4096.0,
                         2 * 128256 * 4096.0};
    for (const int ranks : {8, 64})
        for (int stage = 1; stage <= 3; ++stage) plans_of(gpt2, false, ranks, stage);
    for (int stage = 0; stage <= 3; ++stage) plans_of(llama, false, 16, stage);
    for (int stage = 1; stage <= 3; ++stage) plans_of(llama, true, 64, stage);
    for (const int stage : {0, 2, 3}) experts_are_dealt_out(stage);
    rusage use;
    getrusage(RUSAGE_SELF, &use);
    const double gigabytes = static_cast<double>(use.ru_maxrss) / 1e6;
    check(gigabytes < 1, "plans took " + std::to_string(gigabytes) + " GB");
    return checks::result();
}
