// Optimizer, schedule and data beside an engine at work: what ds_engine_set changes and what it refuses, Muon's two rates, whose cursor and
// class names an engine keeps; gradients of tensor ranks in bf16.
#include <fstream>

#include "support/compressing.h"

using namespace compressing;

namespace {

Json gpt2(const Json& more) {
    Json config = {{"model", DSRT_TEST_DATA "/models/gpt2"}, {"train_batch_size", 4}, {"threads", 1}};
    config.update(more);
    return config;
}
Json with(const char* type, const Json& params) { return gpt2({{"optimizer", {{"type", type}, {"params", params}}}}); }

void set(const Engine& e, const char* key, const Json& value) { must(ds_engine_set(e.e, key, value.dump().c_str()), key); }
void refuses(const Engine& e, const char* key, const Json& value, ds_status status) {
    check(ds_engine_set(e.e, key, value.dump().c_str()) == status, std::string(key) + ": " + ds_last_error());
}

// Root of the mean square of what a step changes.
double change(const Engine& e, const char* name) {
    const Numbers before = e.param(name);
    e.step(0);
    Numbers moved = e.param(name);
    for (size_t i = 0; i < moved.size(); ++i) moved[i] -= before[i];
    return training::distance(moved, Numbers(moved.size(), 0.0), 1) / std::sqrt(static_cast<double>(moved.size()));
}

void muon_has_two_rates() {
    constexpr const char *kMatrix = "transformer.h.0.mlp.c_fc.weight", *kTable = "transformer.wte.weight";
    const auto changes = [&](const Json& config) {
        const Engine e(config);
        const double matrix = change(e, kMatrix);
        const Engine again(config);
        return std::pair(matrix, change(again, kTable));
    };
    const auto both = changes(with("Muon", {{"muon_lr", 0.02}, {"adam_lr", 3e-4}})),
               faster = changes(with("Muon", {{"muon_lr", 0.2}, {"adam_lr", 3e-4}}));
    close({faster.first}, {10 * both.first}, 1e-3, "a matrix moves by muon_lr");
    check(both.first > 5e-4, "a matrix moves by muon_lr, not adam_lr: " + std::to_string(both.first));
    close({faster.second}, {both.second}, 1e-6, "the table moves by adam_lr");
    Json grouped = with("Muon", {{"muon_lr", 0.02}, {"adam_lr", 3e-4}});
    grouped["param_groups"] = {{{"match", "*mlp*"}, {"lr", 0.04}}};
    close({changes(grouped).first}, {2 * both.first}, 1e-3, "a group's own lr comes before muon_lr");
    close({Engine(with("Muon", {{"muon_lr", 0.02}, {"adam_lr", 3e-4}})).metric("lr")}, {0.02}, 1e-9, "the rate that is told is Muon's");
}

// What is allocated stays; what can change, changes whole.
void set_changes_all_or_nothing() {
    const Engine sgd(with("SGD", {{"lr", 0.01}}));
    sgd.step(0);
    refuses(sgd, "optimizer.params.momentum", 0.9, DS_E_UNSUPPORTED);
    sgd.step(1);

    const Json other = {{"lr", 1e-3}, {"betas", {0.5, 0.9}}};
    const Engine changed(with("AdamW", {{"lr", 1e-3}})), made(with("AdamW", other));
    set(changed, "optimizer.params.betas", other["betas"]);
    for (const Engine* e : {&changed, &made}) e->step(0);
    close(changed.param("transformer.wte.weight", DS_FIRST_MOMENT), made.param("transformer.wte.weight", DS_FIRST_MOMENT), 1e-7,
          "beta1 is the new one");
    set(changed, "optimizer.params", {{"lr", 5e-4}, {"betas", {0.5, 0.9}}});
    close({changed.metric("lr")}, {5e-4}, 1e-9, "lr within optimizer.params");
}

void a_schedule_goes_on() {
    const auto decay = [](int total) {
        return Json{{"type", "WarmupDecayLR"}, {"params", {{"total_num_steps", total}, {"warmup_num_steps", 2}, {"warmup_max_lr", 1e-3}}}};
    };
    Json config = with("AdamW", {{"lr", 1e-3}});
    config["scheduler"] = decay(20);
    const Engine e(config);
    config["scheduler"] = decay(40);
    const Engine longer(config);
    for (int i = 0; i < 10; ++i) e.step(i), longer.step(i);
    set(e, "scheduler.params.total_num_steps", 40);
    close({e.metric("lr")}, {longer.metric("lr")}, 1e-9, "a longer schedule is where it would be");
    e.step(10), longer.step(10);
    close({e.metric("lr")}, {longer.metric("lr")}, 1e-9, "and goes on so");
    config["scheduler"] = {{"type", "WarmupLR"}, {"params", {{"warmup_num_steps", 2}}}};
    const Engine warm(config);
    for (int i = 0; i < 3; ++i) warm.step(i);
    set(warm, "optimizer.params.lr", 1e-5);
    warm.step(3);
    close({warm.metric("lr")}, {1e-5}, 1e-9, "a rate that was set holds under WarmupLR, too");
}

Json rows_of(const Folder& folder, const char* name, int rows) {
    const std::string path = folder.path / name;
    std::ofstream file(path);
    const char* labels[] = {"bad", "good"};
    for (int i = 0; i < rows; ++i) file << "word " << i << "," << labels[i % 2] << "\n";
    return {
        {"files", path}, {"columns", {{"text", 0}, {"label", {{"column", 1}, {"names", {"bad", "good", "fair"}}}}}}, {"shuffle", false}};
}

void the_cursor_is_of_what_is_trained_on() {
    const Folder folder;
    const Json train = rows_of(folder, "train.csv", 40), test = rows_of(folder, "test.csv", 12);
    const Json config = {{"model",
                          {{"model_type", "bert"},
                           {"architectures", {"BertForSequenceClassification"}},
                           {"num_labels", 3},
                           {"hidden_size", 8},
                           {"num_hidden_layers", 1},
                           {"num_attention_heads", 1},
                           {"intermediate_size", 8},
                           {"max_position_embeddings", 8}}},
                         {"tokenizer", DSRT_TEST_DATA "/tokenizers/bert/tokenizer.json"},
                         {"train_batch_size", 4},
                         {"threads", 1},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}},
                         {"max_seq_length", 8}};
    const auto open = [](const training::Engine& e, const Json& options) {
        ds_data* data = nullptr;
        must(ds_data_open(options.dump().c_str(), e.e, &data), options.dump());
        return data;
    };
    const auto losses = [&](const training::Engine& e, ds_data* data, int steps) {
        Numbers list;
        for (int i = 0; i < steps; ++i) {
            float loss = 0;
            must(ds_train_batch(e.e, data, &loss), "train");
            list.push_back(loss);
        }
        return list;
    };
    const training::Engine e(config);
    ds_data* data = open(e, train);
    losses(e, data, 3);
    ds_data* other = open(e, test);
    const std::string checkpoints = folder.path / "checkpoints";
    must(ds_save(e.e, checkpoints.c_str(), "tag", nullptr), "save");
    ds_data_destroy(other);
    const Numbers goes_on = losses(e, data, 3);
    ds_data_destroy(data);
    const std::string exported = folder.path / "exported";
    must(ds_export(e.e, exported.c_str(), nullptr), "export");
    check(Json::parse(std::ifstream(exported + "/config.json"))["id2label"] == Json{{"0", "bad"}, {"1", "good"}, {"2", "fair"}},
          "class names outlive their data");

    const training::Engine resumed(config);
    must(ds_load(resumed.e, checkpoints.c_str(), "tag", nullptr), "load");
    data = open(resumed, train);
    check(losses(resumed, data, 3) == goes_on, "test data that was opened meanwhile is not what training resumes with");
    ds_data_destroy(data);
}

// One step of bf16 on tensor ranks that deal out tokens, beside one rank's.
void low_precision_gradients_are_whole() {
    const auto gradients = [](const Json& parallel) {
        const Engine e(gpt2({{"bf16", {{"enabled", true}}},
                             {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}},
                             {"gradient_clipping", 0},
                             {"parallel", parallel}}));
        e.gradients();
        std::vector<Numbers> list;
        for (const std::string& name : e.names(true)) list.push_back(e.param(name, DS_GRAD));
        return std::pair(e.names(true), list);
    };
    const auto [names, one] = gradients(Json::object());
    for (const char* regions : {"auto", "on"}) {
        const auto two = gradients({{"tensor", 2}, {"sequence_regions", regions}}).second;
        double largest = 0;
        for (const Numbers& g : one) largest = std::max(largest, training::distance(g, Numbers(g.size(), 0.0), 1));
        for (size_t i = 0; i < names.size(); ++i)
            check(training::distance(two[i], one[i], largest * 1e-2) < 0.05,
                  std::string("regions ") + regions + ": gradient of " + names[i]);
    }
}

}  // namespace

int main() {
    muon_has_two_rates();
    set_changes_all_or_nothing();
    a_schedule_goes_on();
    the_cursor_is_of_what_is_trained_on();
    low_precision_gradients_are_whole();
    return checks::result();
}
