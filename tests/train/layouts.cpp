// Any layout, same numbers: training with dropout, clipping and accumulation under each layout against one rank; the same layout twice, bit
// for bit; a checkpoint of each layout loaded under every other. Usage: train_layouts LAYOUT ..., a layout being like
// tensor=2,data=2,zero=1 or pipeline=2,schedule=zb-h1; with expert=N among them, a mixture of experts
#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check, checks::must;
using ds::Json;

struct Work {
    std::string name;
    Json config;
    int64_t rows, length, vocabulary;
    bool row_labels;
    double tolerance;  // of losses; of parameters ten times that
};

Json merged(Json config, const std::string& layout) {
    Json mesh = Json::object();
    for (size_t at = 0; at < layout.size();) {
        const size_t equals = layout.find('=', at), end = std::min(layout.find(',', at), layout.size());
        const std::string key = layout.substr(at, equals - at);
        const std::string text = layout.substr(equals + 1, end - equals - 1);
        const int64_t value = std::strtoll(text.c_str(), nullptr, 10);
        if (key == "schedule" || key == "partition") config["pipeline"][key] = text;
        else if (key == "active_stages" || key == "chunks") config["pipeline"][key] = value;
        else if (key == "ring") mesh["sequence_attention"] = "ring";
        else if (key == "regions") mesh["sequence_regions"] = "on";
        else if (key == "zero")  // small models too have several buckets, and weights that are gathered
            config["zero_optimization"] = {
                {"stage", value},
                {"reduce_bucket_size", 20000},
                {"stage3_param_persistence_threshold", 100},
                {"stage3_max_reuse_distance", 0},
            };
        else mesh[key] = value;
        at = end + 1;
    }
    if (!mesh.contains("data")) mesh["data"] = 1;
    config["parallel"] = mesh;
    config["train_micro_batch_size_per_gpu"] = 4 / mesh["data"].get<int64_t>() + (4 % mesh["data"].get<int64_t>() != 0);
    return config;
}

ds_engine* engine_of(const Work& work, const std::string& layout) {
    ds_engine* e = nullptr;
    must(ds_engine_create(merged(work.config, layout).dump().c_str(), nullptr, &e), work.name + " " + layout);
    return e;
}

ds_batch* batch_of(const Work& work, int number) {
    ds_batch* b = nullptr;
    must(ds_batch_create(&b), "batch");
    std::vector<int32_t> ids(static_cast<size_t>(work.rows * work.length)), labels;
    std::vector<uint8_t> mask(ids.size(), 1);
    for (size_t i = 0; i < ids.size(); ++i) {
        ids[i] =
            static_cast<int32_t>((i * 7919 + static_cast<size_t>(number) * 104729 + i * i * 31) % static_cast<size_t>(work.vocabulary));
        const auto row = static_cast<int64_t>(i) / work.length, place = static_cast<int64_t>(i) % work.length;
        mask[i] = place < work.length - 2 * (row % 3);
    }
    const int64_t grid[2] = {work.rows, work.length};
    if (work.row_labels)
        for (int64_t r = 0; r < work.rows; ++r) labels.push_back(static_cast<int32_t>((r + number) % 2));
    else
        for (size_t i = 0; i < ids.size(); ++i) labels.push_back(mask[i] ? ids[i] : -100);
    const auto put = [&](const char* name, int32_t dtype, int32_t rank, const int64_t* shape, const void* data, size_t bytes) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(dtype, rank, shape, data, bytes, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    };
    put("input_ids", DS_I32, 2, grid, ids.data(), ids.size() * 4);
    put("attention_mask", DS_U8, 2, grid, mask.data(), mask.size());
    put("labels", DS_I32, work.row_labels ? 1 : 2, grid, labels.data(), labels.size() * 4);
    return b;
}

// Two micro-batches a step.
std::vector<float> train(const Work& work, ds_engine* e, int first_step, int steps) {
    std::vector<float> losses;
    for (int step = first_step; step < first_step + steps; ++step) {
        for (int micro = 0; micro < 2; ++micro) {
            ds_batch* b = batch_of(work, step * 2 + micro);
            float loss = 0;
            must(ds_forward(e, b, &loss), work.name + " forward");
            must(ds_backward(e), work.name + " backward");
            losses.push_back(loss);
            ds_batch_destroy(b);
        }
        must(ds_step(e), work.name + " step");
    }
    return losses;
}

std::vector<float> parameters(ds_engine* e, int what = DS_WEIGHT) {
    std::vector<float> all;
    size_t count = 0;
    must(ds_param_count(e, &count), "count");
    for (size_t i = 0; i < count; ++i) {
        const char* name = nullptr;
        must(ds_param_name(e, i, &name), "name");
        ds_tensor* t = nullptr;
        must(ds_param_get(e, name, what, &t), name);
        int32_t ndim;
        const int64_t* shape;
        ds_tensor_info(t, nullptr, &ndim, &shape);
        size_t n = 1;
        for (int d = 0; d < ndim; ++d) n *= static_cast<size_t>(shape[d]);
        all.resize(all.size() + n);
        must(ds_tensor_read(t, DS_F32, all.data() + all.size() - n, n * 4), name);
        ds_tensor_destroy(t);
    }
    return all;
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * double(a[i] - b[i]), norm += double(b[i]) * b[i];
    return a.size() == b.size() ? std::sqrt(difference / std::max(norm, 1e-30)) : INFINITY;
}

struct Run {
    std::vector<float> losses, weights;
    double norm = 0;
};

Run run(const Work& work, const std::string& layout, const std::string& checkpoint) {
    ds_engine* e = engine_of(work, layout);
    Run r;
    r.losses = train(work, e, 0, 2);
    must(ds_metric(e, "grad_norm", &r.norm), "grad_norm");
    r.weights = parameters(e);
    if (!checkpoint.empty()) must(ds_save(e, checkpoint.c_str(), "a", nullptr), "save");
    ds_engine_destroy(e);
    return r;
}

// What each layout does from another's checkpoint on.
void resume(const Work& work, const std::vector<std::string>& layouts, const std::string& folder) {
    for (const std::string& from : layouts) {
        std::vector<float> weights, moments;
        std::vector<float> losses;
        for (const std::string& to : layouts) {
            ds_engine* e = engine_of(work, to);
            must(ds_load(e, (folder + "/" + from).c_str(), "a", nullptr), from + " loaded as " + to);
            const auto w = parameters(e), m = parameters(e, DS_FIRST_MOMENT);
            if (weights.empty()) weights = w, moments = m;
            check(w == weights && m == moments, work.name + ": " + from + " loaded as " + to + " has other bits");
            const auto l = train(work, e, 2, 1);
            if (losses.empty()) losses = l;
            check(apart(l, losses) <= work.tolerance, work.name + ": " + from + " goes on as " + to + " with other losses");
            ds_engine_destroy(e);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string models = std::string(DSRT_TEST_DATA) + "/models/";
    const Json common = {{"gradient_accumulation_steps", 2},
                         {"gradient_clipping", 0.5},
                         {"threads", 1},
                         {"logger", {{"default_verbosity", "ERROR"}}},
                         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}, {"weight_decay", 0.1}}}}}};
    const auto with = [&](Json more) {
        Json config = common;
        config.update(more);
        return config;
    };
    const Json drop = {{"hidden_dropout_prob", 0.2}, {"attention_probs_dropout_prob", 0.2}, {"classifier_dropout", 0.2}};
    const Json wide = {{"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}},
                       {"n_layer", 1},         {"n_embd", 768},
                       {"n_head", 12},         {"vocab_size", 50257},
                       {"n_positions", 64},    {"attn_pdrop", 0.1},
                       {"resid_pdrop", 0.1},   {"embd_pdrop", 0.1}};
    const std::vector<Work> mixture = {
        {"mixtral", with({{"model", models + "mixtral"}, {"model_overrides", {{"attention_dropout", 0.2}}}}), 4, 13, 90, false, 1e-5}};
    const std::vector<Work> others = {
        {"bert", with({{"model", models + "bert-sentiment"}, {"model_overrides", drop}}), 4, 11, 90, true, 1e-5},
        {"llama", with({{"model", models + "llama"}, {"model_overrides", {{"attention_dropout", 0.2}}}}), 4, 13, 90, false, 1e-5},
        {"wide gpt2", with({{"model", wide}}), 4, 23, 50257, false, 1e-5},
        {"wide gpt2 bf16", with({{"model", wide}, {"bf16", {{"enabled", true}}}}), 4, 23, 50257, false, 2e-3},
    };
    const std::vector<std::string> layouts(argv + 1, argv + argc);
    const bool deals_experts =
        std::any_of(layouts.begin(), layouts.end(), [](const std::string& layout) { return layout.find("expert") != layout.npos; });
    const std::vector<Work>& all = deals_experts ? mixture : others;
    std::string folder = (std::filesystem::temp_directory_path() / "dsrt-layouts-XXXXXX").string();
    if (!mkdtemp(folder.data())) return 1;
    for (const Work& work : all) {
        const bool small = work.vocabulary < 1000;
        if (const char* slow = std::getenv("DSRT_SLOW_BUILD"); !small && slow && *slow == '1') {
            std::printf(
                "SKIPPED layouts/%s: under a sanitizer its size takes minutes and shows nothing that the small models don't; the release "
                "build runs it\n",
                work.name.c_str());
            continue;
        }
        const Run one = run(work, "data=1", small ? folder + "/data=1" : "");
        for (const std::string& layout : layouts) {
            const Run many = run(work, layout, small ? folder + "/" + layout : "");
            const double loss = apart(many.losses, one.losses), weights = apart(many.weights, one.weights),
                         norm = std::fabs(many.norm - one.norm) / one.norm;
            std::printf("%-16s %-32s losses %.1e weights %.1e norm %.1e\n", work.name.c_str(), layout.c_str(), loss, weights, norm);
            check(loss <= work.tolerance, work.name + " " + layout + ": losses");
            check(weights <= 100 * work.tolerance, work.name + " " + layout + ": weights");
            check(norm <= 10 * work.tolerance, work.name + " " + layout + ": norm of the gradient");
            if (!small) continue;
            const Run again = run(work, layout, "");
            check(again.losses == many.losses && again.weights == many.weights, work.name + " " + layout + ": not the same bits twice");
        }
        std::vector<std::string> with_one = layouts;
        with_one.push_back("data=1");
        if (small) resume(work, with_one, folder);
        std::filesystem::remove_all(folder);
        std::filesystem::create_directory(folder);
    }
    std::filesystem::remove_all(folder);
    return checks::result();
}
