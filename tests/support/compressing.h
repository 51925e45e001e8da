// compression_training through the ABI: an engine with batches of its own, techniques as configs, DeepSpeed's formulas once more, and a
// plain engine that is given what a compressing one should compute with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/training.h"

namespace compressing {

using ds::Json;
using training::check, training::Folder, training::must, training::numbers, training::Numbers;

inline double distance(const Numbers& a, const Numbers& b) { return a.empty() ? INFINITY : training::distance(a, b, 1e-6); }
inline void close(const Numbers& found, const Numbers& exact, double bound, const std::string& what) {
    const double d = distance(found, exact);
    check(d <= bound, what + ": " + std::to_string(d * 1e6) + "e-6 off");
}

struct Batch {
    ds_batch* b = nullptr;
    explicit Batch(bool sentences, int step = 0) {
        must(ds_batch_create(&b), "batch");
        const int64_t shape[2] = {4, 9}, rows[1] = {4};
        std::vector<int32_t> ids, classes;
        for (int i = 0; i < 36; ++i) ids.push_back((i * i * 5 + i * 11 + step * 17 + 3) % 90);
        for (int i = 0; i < 4; ++i) classes.push_back((i + step) % 2);
        put("input_ids", 2, shape, ids);
        if (sentences) put("labels", 1, rows, classes);
        else put("labels", 2, shape, ids);
    }
    Batch(const Batch&) = delete;
    ~Batch() { ds_batch_destroy(b); }
    void put(const char* name, int32_t rank, const int64_t* shape, const std::vector<int32_t>& values) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, rank, shape, values.data(), values.size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    }
};

struct Engine : training::Engine {
    bool sentences;
    explicit Engine(const Json& config)
        : training::Engine(without_sentences(config)),
          sentences(config["model"].get<std::string>().find("sentiment") != std::string::npos || config.contains("SENTENCES")) {}
    double eval(int step = 0) const { return training::Engine::eval(Batch(sentences, step).b); }
    double gradients(int step = 0) const {
        const double loss = forward(Batch(sentences, step).b);
        must(ds_backward(e), "backward");
        return loss;
    }
    double step(int number) const {
        const double loss = gradients(number);
        must(ds_step(e), "step");
        return loss;
    }

private:
    static Json without_sentences(Json config) {
        config.erase("SENTENCES");
        return config;
    }
};

inline Json config_of(const std::string& model, Json compression = Json(), Json more = Json::object()) {
    Json config = {{"model", std::string(DSRT_TEST_DATA) + "/models/" + model},
                   {"train_micro_batch_size_per_gpu", 4},
                   {"threads", 1},
                   {"gradient_clipping", 0},
                   {"optimizer", {{"type", "SGD"}, {"params", {{"lr", 0.05}}}}}};
    if (!compression.is_null()) config["compression_training"] = compression;
    config.merge_patch(more);
    return config;
}
// One technique on the modules of these patterns.
inline Json technique(const char* name, Json shared, Json params, Json modules, Json related = Json()) {
    shared["enabled"] = true;
    if (!shared.contains("schedule_offset")) shared["schedule_offset"] = 0;
    Json group = {{"params", params}, {"modules", modules}};
    if (!related.is_null()) group["related_modules"] = related;
    return {{name, {{"shared_parameters", shared}, {"different_groups", {{"g1", group}}}}}};
}
inline void refused(const Json& config, const std::string& part) {
    ds_engine* e = nullptr;
    const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
    const std::string said = status < 0 ? std::string(ds_status_name(status)) + ": " + ds_last_error() : "accepted";
    ds_engine_destroy(e);
    check(said.find(part) != std::string::npos, "expected \"" + part + "\", found \"" + said + "\"");
}

// --- the formulas, once more ---

inline Numbers largest(const Numbers& scores, double ratio) {
    std::vector<size_t> order(scores.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    Numbers mask(scores.size(), 0);
    for (size_t i = 0; i < static_cast<size_t>(std::ceil(ratio * static_cast<double>(scores.size()))); ++i) mask[order[i]] = 1;
    return mask;
}
inline Numbers sizes(Numbers x) {
    for (double& v : x) v = std::fabs(v);
    return x;
}
inline Numbers rounded(const Numbers& x, int bits, int groups, bool asymmetric) {
    Numbers y = x;
    const size_t n = x.size() / static_cast<size_t>(groups);
    const float range = static_cast<float>(1 << bits);
    for (size_t g = 0; g < static_cast<size_t>(groups); ++g) {
        float least = INFINITY, most = -INFINITY;
        for (size_t i = g * n; i < (g + 1) * n; ++i)
            least = std::min(least, static_cast<float>(x[i])), most = std::max(most, static_cast<float>(x[i]));
        const float scale = asymmetric ? (most - least) / range : 2 * std::max(std::fabs(least), std::fabs(most)) / range,
                    zero = asymmetric ? std::rint(least / scale) * scale : 0;
        for (size_t i = g * n; i < (g + 1) * n; ++i) {
            const float level = std::rint((static_cast<float>(x[i]) - zero) / scale);
            y[i] =
                static_cast<double>(std::clamp(level, asymmetric ? 0 : -range / 2, asymmetric ? range - 1 : range / 2 - 1) * scale + zero);
        }
    }
    return y;
}

inline const std::string kUp0 = "bert.encoder.layer.0.intermediate.dense", kOut0 = "bert.encoder.layer.0.attention.output.dense";

// How a module's weight (and bias) is used, given the compressing engine.
struct Effective {
    Numbers weight, bias;
    std::function<Numbers(const Numbers&)> of_weight;  // the gradient of the weight, from that of what is used
};

// The compressing engine against a plain one that is given the effective weights; another: a parameter that is used differently, too.
inline void computes_as_by_hand(const std::string& what, const std::string& model, const Json& compression, const std::string& module,
                                const std::function<Effective(const Engine&)>& effective,
                                const std::function<void(const Engine&, const Engine&)>& more = {}, const Json& layout = Json::object(),
                                const std::function<std::pair<std::string, Numbers>(const Engine&)>& another = {}) {
    const Engine compressed(config_of(model, compression, layout)), plain(config_of(model));
    for (int step = 0; step < 2; ++step) {
        const Effective now = effective(compressed);
        for (const std::string& p : plain.names()) plain.set(p, compressed.param(p));
        plain.set(module + ".weight", now.weight);
        if (!now.bias.empty()) plain.set(module + ".bias", now.bias);
        if (another) {
            const auto [parameter, values] = another(compressed);
            plain.set(parameter, values);
        }
        const std::string name = what + ", step " + std::to_string(step) + ": ";
        close({compressed.eval(5)}, {plain.eval(5)}, 3e-6, name + "evaluation");
        close({compressed.gradients(step)}, {plain.gradients(step)}, 3e-6, name + "loss");
        for (const std::string& p : plain.names()) {
            Numbers exact = plain.param(p, DS_GRAD);
            if (p == module + ".weight" && now.of_weight) exact = now.of_weight(exact);
            if (p == module + ".bias" && !now.bias.empty()) {
                const Numbers own = compressed.param(p);
                for (size_t i = 0; i < exact.size(); ++i) exact[i] = now.bias[i] == own[i] ? exact[i] : 0;
            }
            double most = 0;
            for (const double x : exact) most = std::max(most, std::fabs(x));
            if (most > 1e-7) close(compressed.param(p, DS_GRAD), exact, 5e-5, name + "gradient of " + p);
        }
        if (more) more(compressed, plain);
        must(ds_step(compressed.e), "step");
        must(ds_zero_grad(plain.e), "zero_grad");
    }
}

inline Numbers times(const Numbers& a, const Numbers& b) {
    Numbers y = a;
    for (size_t i = 0; i < y.size(); ++i) y[i] *= b[i];
    return y;
}
// A mask of rows (or of blocks of columns) over a whole matrix of so many columns.
inline Numbers by_row(const Numbers& mask, size_t columns) {
    Numbers all;
    for (const double m : mask) all.insert(all.end(), columns, m);
    return all;
}
inline Numbers by_head(const Numbers& mask, size_t rows, size_t columns) {
    Numbers all;
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < columns; ++c) all.push_back(mask[c / (columns / mask.size())]);
    return all;
}
inline Numbers turned(const Numbers& x, size_t rows) {
    Numbers y(x.size());
    const size_t columns = x.size() / rows;
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < columns; ++c) y[c * rows + r] = x[r * columns + c];
    return y;
}

// Every technique at once, on BERT.
inline Json several() {
    Json all = technique("sparse_pruning", {{"method", "topk"}, {"schedule_offset", 1}}, {{"dense_ratio", 0.5}}, {"attention.self.query"});
    all.update(technique("row_pruning", {{"method", "l1"}, {"schedule_offset", 2}}, {{"dense_ratio", 0.5}}, {"intermediate.dense"},
                         Json::array({Json::array({"layer.[0-9].output.dense"})})));
    all.update(technique("head_pruning", {{"num_heads", 4}, {"schedule_offset", 1}}, {{"dense_ratio", 0.5}}, {"attention.output.dense"}));
    all.update(technique("weight_quantization", Json::object(), {{"start_bits", 8}, {"target_bits", 6}}, {"attention.self.key"}));
    all.update(technique("activation_quantization", Json::object(), {{"bits", 8}}, {"attention.self.value"}));
    return all;
}

}  // namespace compressing
