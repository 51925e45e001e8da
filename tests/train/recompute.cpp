// Recomputation through the public ABI: whatever is computed again, the numbers are the same to the last bit; "auto" meets memory_limit in
// the fastest way, says what it chose, and says with numbers why it can't.
#include <dsrt/dsrt.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check, checks::must;
using ds::Json;

const Json kGpt = {{"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}},
                   {"vocab_size", 97},     {"n_positions", 64},
                   {"n_embd", 32},         {"n_layer", 5},
                   {"n_head", 4},          {"resid_pdrop", 0.1},
                   {"embd_pdrop", 0.1},    {"attn_pdrop", 0.1}};
const Json kLlama = {{"model_type", "llama"},    {"architectures", {"LlamaForCausalLM"}},
                     {"vocab_size", 97},         {"max_position_embeddings", 64},
                     {"hidden_size", 32},        {"intermediate_size", 72},
                     {"num_hidden_layers", 4},   {"num_attention_heads", 4},
                     {"num_key_value_heads", 2}, {"tie_word_embeddings", false}};
const Json kBert = {{"model_type", "bert"},   {"architectures", {"BertForMaskedLM"}},
                    {"vocab_size", 97},       {"max_position_embeddings", 64},
                    {"hidden_size", 32},      {"intermediate_size", 72},
                    {"num_hidden_layers", 4}, {"num_attention_heads", 4}};

constexpr int64_t kRows = 8, kLength = 48;

Json config_of(const Json& model, const Json& more) {
    Json config = {{"model", model},
                   {"threads", 2},
                   {"train_micro_batch_size_per_gpu", kRows},
                   {"max_seq_length", kLength},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}}}}},
                   {"logger", {{"default_verbosity", "ERROR"}}}};
    config.merge_patch(more);
    return config;
}

ds_batch* batch_of(int64_t rows, int64_t length) {
    ds_batch* b = nullptr;
    ds_tensor* t = nullptr;
    std::vector<int64_t> ids(static_cast<size_t>(rows * length));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>((i * i + 5 * i) % 97);
    const int64_t shape[2] = {rows, length};
    must(ds_batch_create(&b), "batch");
    must(ds_tensor_create(DS_I64, 2, shape, ids.data(), ids.size() * 8, &t), "tensor");
    must(ds_batch_set(b, "input_ids", t), "input_ids");
    must(ds_batch_set(b, "labels", t), "labels");
    ds_tensor_destroy(t);
    return b;
}

Json plan_of(const Json& config) {
    char* text = nullptr;
    must(ds_plan(config.dump().c_str(), nullptr, &text), "ds_plan");
    Json plan = Json::parse(text);
    ds_free(text);
    return plan;
}

int64_t total(const Json& plan) { return plan["memory_bytes"]["total"].get<int64_t>(); }

// Losses of three steps of two micro-batches, then all weights.
std::vector<float> trained(const Json& config, int64_t* working = nullptr) {
    ds_engine* e = nullptr;
    must(ds_engine_create(config.dump().c_str(), nullptr, &e), "create");
    ds_batch* b = batch_of(kRows * config.value("parallel", Json::object()).value("data", int64_t{1}), kLength);
    std::vector<float> numbers;
    const int64_t micros = config.value("gradient_accumulation_steps", int64_t{1});
    for (int step = 0; step < 3; ++step) {
        for (int64_t micro = 0; micro < micros; ++micro) {
            float loss = 0;
            must(ds_forward(e, b, &loss), "forward");
            must(ds_backward(e), "backward");
            numbers.push_back(loss);
        }
        must(ds_step(e), "step");
    }
    double bytes = 0;
    must(ds_metric(e, "plan_bytes", &bytes), "plan_bytes");
    if (working) *working = static_cast<int64_t>(bytes);
    size_t n = 0;
    must(ds_param_count(e, &n), "count");
    for (size_t i = 0; i < n; ++i) {
        const char* name = nullptr;
        ds_tensor* t = nullptr;
        int32_t ndim;
        const int64_t* shape;
        must(ds_param_name(e, i, &name), "name");
        must(ds_param_get(e, name, DS_WEIGHT, &t), "weight");
        must(ds_tensor_info(t, nullptr, &ndim, &shape), "info");
        int64_t count = 1;
        for (int d = 0; d < ndim; ++d) count *= shape[d];
        numbers.resize(numbers.size() + static_cast<size_t>(count));
        must(ds_tensor_read(t, DS_F32, numbers.data() + numbers.size() - count, static_cast<size_t>(count) * 4), "read");
        ds_tensor_destroy(t);
    }
    ds_batch_destroy(b);
    ds_engine_destroy(e);
    return numbers;
}

void the_numbers_are_the_same(const std::string& name, const Json& model, const Json& layout) {
    Json more = layout;
    more["gradient_accumulation_steps"] = 2;
    const std::vector<float> off = trained(config_of(model, more));
    const int64_t most = total(plan_of(config_of(model, more)));
    more["recompute"] = 2;
    const int64_t least = total(plan_of(config_of(model, more)));
    for (const Json& way : {Json(1), Json(2), Json("auto")}) {
        more["recompute"] = way;
        if (way == "auto") {
            more["memory_limit"] = (2 * least + most) / 3;
            const Json plan = plan_of(config_of(model, more));
            check(plan["recompute"]["blocks"].get<int>() > 0 || plan["recompute"]["level"].get<int>() > 0,
                  name + ": auto keeps everything under a limit of a third");
        }
        check(trained(config_of(model, more)) == off, name + ": recompute " + way.dump() + " changes the numbers");
    }
    std::printf("%-28s %lld bytes, %lld with recompute 2\n", name.c_str(), static_cast<long long>(most), static_cast<long long>(least));
}

void tighter_limits_recompute_more() {
    const int64_t most = total(plan_of(config_of(kGpt, {{"recompute", 0}}))), least = total(plan_of(config_of(kGpt, {{"recompute", 2}})));
    check(least < most * 3 / 4, "recompute 2 saves a quarter of " + std::to_string(most) + ", but takes " + std::to_string(least));
    const Json free = plan_of(config_of(kGpt, {{"recompute", "auto"}}))["recompute"];
    check(free["level"] == 0 && free["blocks"] == 0 && free["memory_limit"].get<int64_t>() > most,
          "without a limit the machine's memory counts: " + free.dump());
    int weight = 0, kinds = 0;
    for (int part = 0; part <= 8; ++part) {
        const int64_t limit = most - (most - least) * part / 8;
        const Json plan = plan_of(config_of(kGpt, {{"recompute", "auto"}, {"memory_limit", limit}}));
        check(total(plan) <= limit, "a plan of " + std::to_string(total(plan)) + " bytes for a limit of " + std::to_string(limit));
        const int now = plan["recompute"]["blocks"].get<int>() * 2 + plan["recompute"]["level"].get<int>();
        check(part > 0 || now == 0, "what fits is kept: " + plan["recompute"].dump());
        kinds += now != weight;
        weight = now;
        const std::string told = plan["recompute"]["chosen"].get<std::string>();
        check(told.find("chosen: ") != std::string::npos && told.find(std::to_string(total(plan))) != std::string::npos,
              "the choice is told: " + told);
    }
    check(kinds >= 3, "limits between the extremes are met by ways between them");
    const int64_t limit = (most + least) / 2;
    const Json stays = plan_of(config_of(kGpt, Json::object()))["memory_bytes"];
    int64_t working = 0;  // memory itself comes in large pages
    trained(config_of(kGpt, {{"recompute", "auto"}, {"memory_limit", limit}}), &working);
    const int64_t run = stays["total"].get<int64_t>() - stays["working"].get<int64_t>() + working;
    check(working > 0 && run <= limit, "a run of " + std::to_string(run) + " bytes for a limit of " + std::to_string(limit));
}

bool says(const std::vector<std::string>& parts) {
    for (const std::string& part : parts)
        if (std::string(ds_last_error()).find(part) == std::string::npos) return false;
    return true;
}

void a_limit_that_cannot_be_met_is_told_with_numbers() {
    ds_engine* e = nullptr;
    char* text = nullptr;
    check(ds_engine_create(config_of(kGpt, {{"memory_limit", 1000}}).dump().c_str(), nullptr, &e) == DS_E_OUT_OF_MEMORY && !e &&
              says({"memory_limit: is 1000 bytes", "weights (", "gradients ("}),
          std::string("weights alone: ") + ds_last_error());
    const int64_t least = total(plan_of(config_of(kGpt, {{"recompute", 2}})));
    const std::string config = config_of(kGpt, {{"recompute", "auto"}, {"memory_limit", least / 2}}).dump();
    check(ds_plan(config.c_str(), nullptr, &text) == DS_E_OUT_OF_MEMORY &&
              says({"memory_limit: is " + std::to_string(least / 2) + " bytes", "on 8 rows takes at least", "working memory"}),
          std::string("a plan: ") + ds_last_error());
    const int64_t kept = total(plan_of(config_of(kGpt, Json::object())));
    check(ds_plan(config_of(kGpt, {{"memory_limit", kept - 1}}).dump().c_str(), nullptr, &text) == DS_E_OUT_OF_MEMORY &&
              says({"with recompute \"auto\" it is less"}),
          std::string("a fixed way: ") + ds_last_error());
    must(ds_engine_create(config_of(kGpt, {{"recompute", "auto"}, {"memory_limit", least}}).dump().c_str(), nullptr, &e), "create");
    ds_batch *large = batch_of(6 * kRows, kLength), *small = batch_of(kRows, kLength);
    float loss = 0;
    check(ds_forward(e, large, &loss) == DS_E_OUT_OF_MEMORY && says({"48 rows", "fewer rows"}),
          std::string("six times the rows: ") + ds_last_error());
    check(ds_forward(e, small, &loss) == DS_OK && ds_backward(e) == DS_OK && ds_step(e) == DS_OK,
          std::string("the engine goes on: ") + ds_last_error());
    ds_batch_destroy(large);
    ds_batch_destroy(small);
    ds_engine_destroy(e);
}

}  // namespace

int main() {
    for (const Json& precision :
         {Json::object(), Json{{"bf16", {{"enabled", true}}}}, Json{{"fp16", {{"enabled", true}, {"initial_scale_power", 8}}}}}) {
        const std::string suffix = precision.empty() ? " f32" : " " + precision.begin().key();
        the_numbers_are_the_same("gpt2" + suffix, kGpt, precision);
        the_numbers_are_the_same("llama" + suffix, kLlama, precision);
        the_numbers_are_the_same("bert" + suffix, kBert, precision);
    }
    the_numbers_are_the_same("gpt2 tensor 2", kGpt, {{"parallel", {{"tensor", 2}}}, {"threads", 1}});
    the_numbers_are_the_same("gpt2 pipeline 2", kGpt, {{"parallel", {{"pipeline", 2}}}, {"threads", 1}});
    the_numbers_are_the_same(
        "llama data 2, ZeRO 3", kLlama,
        {{"parallel", {{"data", 2}}}, {"threads", 1}, {"zero_optimization", {{"stage", 3}, {"stage3_param_persistence_threshold", 10}}}});
    tighter_limits_recompute_more();
    a_limit_that_cannot_be_met_is_told_with_numbers();
    return checks::result();
}
