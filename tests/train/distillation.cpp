// knowledge_distillation through the ABI: the loss of a training pass is the formula of lib/passes/distillation.h on what a student and its
// teacher compute by themselves, gradients are its slopes, the teacher is frozen, unseen and in no file, and a student comes nearer to it.
#include <dsrt/dsrt.h>

#include <cstring>
#include <filesystem>

#include "base/json.h"
#include "ckpt/safetensors.h"
#include "support/golden_batch.h"

namespace {

using ds::Json;
using training::check, training::Engine, training::Folder, training::must, training::numbers, training::Numbers;

const std::string kModels = std::string(DSRT_TEST_DATA) + "/models/";

void close(double found, double exact, double bound, const std::string& what) {
    check(std::fabs(found - exact) <= bound * std::max(1e-3, std::fabs(exact)),
          what + ": " + std::to_string(found) + ", not " + std::to_string(exact));
}

using Batch = training::GoldenBatch;

const std::vector<std::string> kBert = {"bert-sentiment", "bert.encoder.layer", "bert.embeddings", "bert.pooler", "classifier"};
const std::vector<std::string> kLlama = {"llama", "model.layers", "model.embed_tokens", "model.norm", "lm_head"};

Json config_of(const std::vector<std::string>& model, const Json& distillation, Json more = Json::object()) {
    Json compression = {{"layer_reduction",
                         {{"enabled", true},
                          {"keep_number_layer", 1},
                          {"module_name_prefix", model[1]},
                          {"teacher_layer", {1}},
                          {"other_module_name", {model[2], model[3], model[4]}}}}};
    if (!distillation.is_null()) compression["knowledge_distillation"] = distillation;
    Json config = {{"model", kModels + model[0]},
                   {"train_micro_batch_size_per_gpu", 3},
                   {"gradient_clipping", 0},
                   {"outputs", {"logits", "last_hidden_state"}},
                   {"compression_training", compression},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}, {"weight_decay", 0}}}}}};
    if (model == kBert) config["model_overrides"] = {{"hidden_dropout_prob", 0}, {"attention_probs_dropout_prob", 0}};
    config.update(more);
    return config;
}

Numbers log_softmax(const Numbers& logits, size_t row, size_t classes, double temperature) {
    Numbers out(classes);
    double most = -INFINITY, sum = 0;
    for (size_t j = 0; j < classes; ++j) most = std::max(most, out[j] = logits[row * classes + j] / temperature);
    for (const double x : out) sum += std::exp(x - most);
    for (double& x : out) x -= most + std::log(sum);
    return out;
}

// Of rows with a label; `labels` as the loss sees them.
double divergence(const Numbers& student, const Numbers& teacher, const std::vector<int64_t>& labels, double temperature) {
    const size_t classes = student.size() / labels.size();
    double sum = 0, n = 0;
    for (size_t i = 0; i < labels.size(); ++i) {
        if (labels[i] == -100) continue;
        const Numbers p = log_softmax(teacher, i, classes, temperature), q = log_softmax(student, i, classes, temperature);
        for (size_t j = 0; j < classes; ++j) sum += std::exp(p[j]) * (p[j] - q[j]);
        ++n;
    }
    return temperature * temperature * sum / n;
}

// A causal row's logits answer to the next token's label.
std::vector<int64_t> shifted(const std::vector<int64_t>& labels, size_t length) {
    std::vector<int64_t> out(labels.size(), -100);
    for (size_t i = 0; i + 1 < labels.size(); ++i)
        if ((i + 1) % length) out[i] = labels[i + 1];
    return out;
}

void is_the_formula(const std::vector<std::string>& model) {
    const std::string what = model[0];
    const Batch batch(model[0]);
    Json whole = config_of(model, Json());
    whole.erase("compression_training");
    const Engine teacher(whole), plain(config_of(model, Json()));
    (void)teacher.eval(batch.b);
    const double hard = plain.eval(batch.b);
    const Numbers given = batch.get("labels"), mask = batch.get("attention_mask");
    std::vector<int64_t> labels(given.begin(), given.end());
    if (model == kLlama) labels = shifted(labels, mask.size() / 3);  // three rows
    const Numbers logits = plain.output("logits"), taught = teacher.output("logits"), state = plain.output("last_hidden_state"),
                  of_teacher = teacher.output("last_hidden_state");
    for (const double temperature : {1.0, 3.0})
        for (const double alpha : {0.0, 0.7, 1.0}) {
            const Engine student(config_of(model, {{"enabled", true}, {"temperature", temperature}, {"alpha", alpha}}));
            const double soft = divergence(logits, taught, labels, temperature);
            check(soft > 1e-4, what + ": student and teacher differ");
            close(student.forward(batch.b), (1 - alpha) * hard + alpha * soft, 1e-5,
                  what + " loss at T " + std::to_string(temperature) + ", alpha " + std::to_string(alpha));
            close(student.eval(batch.b), hard, 1e-6, what + ": evaluation is of the labels alone");
        }
    if (model != kBert) return;
    // One block, whose states are the last: the embeddings are copies, so theirs don't differ.
    double squares = 0, tokens = 0;
    const size_t width = state.size() / mask.size();
    for (size_t i = 0; i < mask.size(); ++i) {
        if (mask[i] == 0) continue;
        for (size_t j = 0; j < width; ++j) squares += std::pow(state[i * width + j] - of_teacher[i * width + j], 2);
        ++tokens;
    }
    const Engine student(config_of(model, {{"enabled", true}, {"alpha", 0.0}, {"hidden_weight", 0.25}}));
    close(student.forward(batch.b), hard + 0.25 * squares / (tokens * static_cast<double>(width)), 1e-5, what + ": distance of states");
}

void gradients_are_slopes() {
    const Batch batch("bert-sentiment");
    const Engine student(config_of(kBert, {{"enabled", true}, {"temperature", 2.0}, {"alpha", 0.6}, {"hidden_weight", 0.5}}));
    (void)student.forward(batch.b);
    must(ds_backward(student.e), "backward");
    for (const std::string name : {"classifier.weight", "bert.encoder.layer.0.output.dense.bias", "bert.embeddings.LayerNorm.weight"}) {
        const Numbers gradient = student.param(name, DS_GRAD), weight = student.param(name);
        double norm = 0;
        for (const double g : gradient) norm += g * g;
        norm = std::sqrt(norm);
        check(norm > 1e-4, name + " has a gradient");
        double ends[2];
        for (int side = 0; side < 2; ++side) {  // along the gradient itself the slope is its norm
            Numbers moved = weight;
            for (size_t i = 0; i < moved.size(); ++i) moved[i] += (side ? 0.01 : -0.01) * gradient[i] / norm;
            student.set(name, moved);
            ends[side] = student.forward(batch.b);
        }
        student.set(name, weight);
        close((ends[1] - ends[0]) / 0.02, norm, 0.01, "slope along the gradient of " + name);
    }
}

void the_teacher_is_frozen_and_unseen() {
    const Batch batch("bert-sentiment");
    const Json config = config_of(kBert, {{"enabled", true}, {"alpha", 1.0}, {"temperature", 2.0}});
    const Engine student(config), plain(config_of(kBert, Json()));
    check(student.names() == plain.names(), "a host sees the student alone");
    ds_tensor* t = nullptr;
    check(ds_param_get(student.e, "teacher.classifier.weight", DS_WEIGHT, &t) == DS_E_NOT_FOUND, "the teacher is no parameter of his");
    const double first = student.step(batch.b);
    for (int i = 0; i < 60; ++i) (void)student.step(batch.b);
    const double last = student.forward(batch.b);
    check(last < first / 2, "the student comes nearer to its teacher: " + std::to_string(first) + " to " + std::to_string(last));
    Folder folder;
    const std::string saved = folder.path / "saved", exported = folder.path / "exported";
    must(ds_save(student.e, saved.c_str(), "t", nullptr), "save");
    const auto file = ds::SafetensorsFile::open(saved + "/t/weights.safetensors");
    bool any = false;
    for (const ds::TensorView& view : file->tensors()) any |= view.name.starts_with("teacher.");
    check(!any, "a checkpoint has the student alone");
    const Engine again(config);
    must(ds_load(again.e, saved.c_str(), nullptr, nullptr), "load");
    for (int i = 0; i < 2; ++i)
        check(again.step(batch.b) == student.step(batch.b), "resume is bit-equal, so its teacher is still what the folder has");
    must(ds_export(student.e, exported.c_str(), nullptr), "export");
    const Engine alone(Json{{"model", exported}});
    close(alone.eval(batch.b), student.eval(batch.b), 1e-5, "a student's folder");
    check(alone.names() == plain.names(), "and it has the student's parameters");
}

void layouts_and_teachers() {
    const Batch batch("bert-sentiment");
    const Json distillation = {{"enabled", true}, {"alpha", 0.5}, {"hidden_weight", 0.1}};
    for (const auto& [ranks, rows] : {std::pair{2, 2}, {4, 1}}) {  // of 3 rows: one rank has fewer, or none
        const Engine one(config_of(kBert, distillation)),
            more(config_of(kBert, distillation, {{"parallel", {{"data", ranks}}}, {"train_micro_batch_size_per_gpu", rows}}));
        for (int i = 0; i < 3; ++i)
            close(more.step(batch.b), one.step(batch.b), 1e-4, std::to_string(ranks) + " data ranks: states over the whole batch");
    }
    const Json soft = {{"enabled", true}, {"alpha", 0.5}};
    const Engine a(config_of(kBert, soft)), b(config_of(kBert, soft, {{"parallel", {{"data", 2}}}, {"train_micro_batch_size_per_gpu", 2}}));
    for (int i = 0; i < 3; ++i) close(b.step(batch.b), a.step(batch.b), 1e-4, "two data ranks");
    const Engine low(config_of(kBert, soft, {{"bf16", {{"enabled", true}}}}));
    close(low.forward(batch.b), Engine(config_of(kBert, soft)).forward(batch.b), 0.03, "bf16");
    // The teacher may be another folder, and the student whole.
    Json given = config_of(kBert, {{"enabled", true}, {"alpha", 1.0}, {"teacher", kModels + "bert-sentiment"}});
    given["compression_training"].erase("layer_reduction");
    check(std::fabs(Engine(given).forward(batch.b)) < 1e-6, "a model has nothing to learn from itself");
}

void mistakes_are_named() {
    const auto refused = [](const Json& config, const std::string& words) {
        ds_engine* e = nullptr;
        const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
        check(status < 0 && std::strstr((std::string(ds_status_name(status)) + ": " + ds_last_error()).c_str(), words.c_str()),
              "refusal: " + words + ": " + (status < 0 ? ds_last_error() : "accepted"));
        ds_engine_destroy(e);
    };
    const std::string key = "config: compression_training.knowledge_distillation";
    refused(config_of(kBert, {{"enabled", true}, {"temperature", 0}}), "DS_E_CONFIG: " + key + ".temperature");
    refused(config_of(kBert, {{"enabled", true}, {"alpha", 1.5}}), "DS_E_CONFIG: " + key + ".alpha");
    refused(config_of(kBert, {{"enabled", true}, {"beta", 1}}), "DS_E_CONFIG: " + key + ".beta: unknown key");
    refused(config_of(kBert, {{"enabled", true}, {"teacher", "/nowhere"}}), "/nowhere");
    refused(config_of(kBert, {{"enabled", true}}, {{"parallel", {{"tensor", 2}}}}),
            "DS_E_UNSUPPORTED: " + key + ": not built for parallel.tensor");
    refused(config_of(kBert, {{"enabled", true}}, {{"model_overrides", {{"problem_type", "multi_label_classification"}}}}),
            "DS_E_UNSUPPORTED: " + key + ": not built for heads whose answer is not one class");
    refused(config_of(kBert, {{"enabled", true}, {"teacher", kModels + "llama"}}), "");
    Json deep = config_of(kBert, {{"enabled", true}, {"hidden_weight", 1.0}, {"teacher", kModels + "bert-sentiment"}},
                          {{"model_overrides", {{"num_hidden_layers", 1}}}});
    deep["compression_training"].erase("layer_reduction");
    refused(deep, "DS_E_CONFIG: " + key + ": hidden_weight: the student has 1 blocks and the teacher 2");
}

}  // namespace

int main() {
    is_the_formula(kBert);
    is_the_formula(kLlama);
    gradients_are_slopes();
    the_teacher_is_frozen_and_unseen();
    layouts_and_teachers();
    mistakes_are_named();
    return checks::result();
}
