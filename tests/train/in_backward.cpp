// optimizer_in_backward through the public ABI: whatever the model, optimizer and precision, ds_train_batch gives the numbers of the config
// without it to the last bit and needs no memory for gradients; what cannot go together is refused by name.
#include "base/json.h"
#include "support/golden_batch.h"

namespace {

using ds::Json;
using training::check, training::must, training::Numbers;

struct Case {
    const char* name;
    const char* model;
    Json more;
};

// The same batch again and again, without end.
struct Endless {
    training::GoldenBatch batch;
    static int32_t next(void* user, ds_batch* to) {
        const auto& self = *static_cast<Endless*>(user);
        for (const std::string& name : self.batch.names) {
            ds_tensor* t = nullptr;
            if (ds_batch_get(self.batch.b, name.c_str(), &t) < 0 || ds_batch_set(to, name.c_str(), t) < 0) return DS_E_INTERNAL;
            ds_tensor_destroy(t);
        }
        return 0;
    }
    static int32_t save(void*, char** json) { return *json = ::strdup("0"), 0; }
    static int32_t restore(void*, const char*) { return 0; }
};

Json config_of(const Case& c, bool in_backward) {
    Json config = {{"model", std::string(DSRT_TEST_DATA "/models/") + c.model},
                   {"train_batch_size", 1},
                   {"threads", 2},
                   {"gradient_clipping", 0},
                   {"bf16", {{"check_grad_overflow", false}}},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-2}, {"weight_decay", 0.1}}}}},
                   {"scheduler", {{"type", "WarmupLR"}, {"params", {{"warmup_num_steps", 4}, {"warmup_max_lr", 1e-2}}}}},
                   {"optimizer_in_backward", in_backward}};
    config.merge_patch(c.more);
    return config;
}

struct Trained {
    std::vector<Numbers> numbers;  // losses and rates, then of each parameter its value and moments
    Numbers norms;
};

Trained trained(const Case& c, bool in_backward, int updates = 3) {
    Trained found{{{}}, {}};
    const training::Engine e(config_of(c, in_backward));
    Endless source{training::GoldenBatch(c.model)};
    const ds_data_source callbacks = {sizeof callbacks, &source, Endless::next, Endless::save, Endless::restore, nullptr};
    ds_data* data = nullptr;
    must(ds_data_create(&callbacks, e.e, &data), "data");
    for (int i = 0; i < updates; ++i) {
        float loss = 0;
        must(ds_train_batch(e.e, data, &loss), c.name);
        found.numbers.front().insert(found.numbers.front().end(), {loss, e.metric("lr"), e.metric("tokens"), e.metric("global_samples")});
        found.norms.push_back(e.metric("grad_norm"));
    }
    ds_data_destroy(data);
    for (const std::string& name : e.names(true))
        for (const int what : {DS_WEIGHT, DS_FIRST_MOMENT, DS_SECOND_MOMENT}) {
            ds_tensor* t = nullptr;
            if (ds_param_get(e.e, name.c_str(), what, &t) == DS_OK) found.numbers.push_back(training::numbers(t));
        }
    check(found.numbers.size() > 1, "something is trained");
    return found;
}

int64_t planned_gradients(const Json& config) {
    char* text = nullptr;
    must(ds_plan(config.dump().c_str(), nullptr, &text), "ds_plan");
    const Json plan = Json::parse(text);
    ds_free(text);
    return plan["memory_bytes"]["gradients"].get<int64_t>();
}

void numbers_are_the_same(const Case& c) {
    const Trained kept = trained(c, false), consumed = trained(c, true);
    check(kept.numbers == consumed.numbers, std::string(c.name) + ": numbers differ");
    check(training::distance(consumed.norms, kept.norms, 1e-9) < 1e-6, std::string(c.name) + ": the gradient's norm is " +
                                                                           std::to_string(consumed.norms.back()) + ", not " +
                                                                           std::to_string(kept.norms.back()));
    check(planned_gradients(config_of(c, false)) > 0 && planned_gradients(config_of(c, true)) == 0,
          std::string(c.name) + ": the plan has no memory for gradients");
    std::printf("%s\n", c.name);
}

// A host that takes the four calls itself reads gradients between them, whatever the config says of ds_train_batch.
void the_four_calls_keep_gradients() {
    const Case c{"gpt2", "gpt2", Json::object()};
    const training::GoldenBatch batch(c.model);
    const training::Engine kept(config_of(c, false)), consumed(config_of(c, true));
    for (int i = 0; i < 2; ++i) {
        for (const auto* e : {&kept, &consumed}) {
            e->forward(batch.b);
            must(ds_backward(e->e), "backward");
        }
        const std::string table = "transformer.wte.weight";
        check(kept.param(table, DS_GRAD) == consumed.param(table, DS_GRAD), "ds_backward leaves gradients to be read");
        for (const auto* e : {&kept, &consumed}) must(ds_step(e->e), "step");
        check(kept.param(table) == consumed.param(table), "ds_step updates by them");
    }
}

void contradictions_are_refused() {
    const auto refused = [](const Json& more, ds_status status, const std::string& part) {
        ds_engine* e = nullptr;
        const ds_status found = ds_engine_create(config_of({"", "gpt2", more}, true).dump().c_str(), nullptr, &e);
        const std::string said = found < 0 ? ds_last_error() : "accepted";
        ds_engine_destroy(e);
        check(found == status && said.find("optimizer_in_backward") != std::string::npos && said.find(part) != std::string::npos,
              more.dump() + ": " + said);
    };
    refused({{"gradient_clipping", 1.0}}, DS_E_CONFIG, "gradient_clipping by norm (1)");
    refused({{"bf16", {{"enabled", true}, {"check_grad_overflow", true}}}}, DS_E_CONFIG, "bf16.check_grad_overflow");
    refused({{"fp16", {{"enabled", true}}}}, DS_E_CONFIG, "fp16");
    refused({{"train_batch_size", 4}, {"gradient_accumulation_steps", 2}}, DS_E_CONFIG, "gradient_accumulation_steps are 2");
    refused({{"batch_growth", {{"schedule", {{2, 4}}}}}}, DS_E_CONFIG, "batch_growth");
    refused({{"train_batch_size", 2}, {"parallel", {{"data", 2}}}}, DS_E_UNSUPPORTED, "one rank; the mesh has 2");
}

}  // namespace

int main() {
    const training::Folder folder;
    const std::string disk = folder.path.string();
    const auto optimizer = [](const char* type, Json params = {{"lr", 1e-2}}) {
        return Json{{"optimizer", {{"type", type}, {"params", std::move(params)}}}};
    };
    const auto with = [](Json a, const Json& b) { return a.merge_patch(b), a; };
    for (const Case& c : std::initializer_list<Case>{
             {"gpt2, a tied table", "gpt2", Json::object()},
             {"gpt2, bf16", "gpt2", {{"bf16", {{"enabled", true}}}}},
             {"gpt2, bf16 rounded by chance", "gpt2", {{"bf16", {{"enabled", true}, {"stochastic_rounding", true}}}}},
             {"gpt2, clipped by value", "gpt2", {{"gradient_clipping", {{"value", 1e-3}}}}},
             {"gpt2, recomputed", "gpt2", {{"recompute", 2}}},
             {"gpt2, state and weights on disk",
              "gpt2",
              {{"zero_optimization",
                {{"stage", 3},
                 {"offload_optimizer", {{"device", "nvme"}, {"nvme_path", disk}}},
                 {"offload_param", {{"device", "nvme"}, {"nvme_path", disk}}}}}}},
             {"gpt2, groups", "gpt2", {{"param_groups", {{{"match", "*wte*"}, {"frozen", true}}, {{"match", "*bias"}, {"lr", 0.1}}}}}},
             {"gpt2, adapters", "gpt2", {{"lora", {{"r", 2}, {"target_modules", {"c_attn"}}}}}},
             {"llama, Muon sees whole matrices", "llama", optimizer("Muon")},
             {"llama, Adafactor", "llama", optimizer("Adafactor")},
             {"llama, Lion, bf16", "llama", with(optimizer("Lion"), {{"bf16", {{"enabled", true}}}})},
             {"llama, Lamb", "llama", optimizer("Lamb")},
             {"mixtral", "mixtral", Json::object()},
             {"bert, classes", "bert-sentiment", Json::object()},
             {"bert, masked words", "bert-mlm", {{"bf16", {{"enabled", true}}}}},
             {"t5", "t5-translation", Json::object()},
             {"marian", "marian-translation", {{"bf16", {{"enabled", true}}}}}})
        numbers_are_the_same(c);
    the_four_calls_keep_gradients();
    contradictions_are_refused();
    return checks::result();
}
