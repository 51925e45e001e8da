// ZeRO through the public ABI: what each stage sends, against the published volumes (arXiv 1910.02054, section 7); what it holds; rows that
// are fewer than ranks; frozen parameters; sums in place of means; gradients that travel in half precision; sparse ones.
#include <dsrt/dsrt.h>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check, checks::must;
using ds::Json;

constexpr int64_t kVocabulary = 90;
const std::string kModels = std::string(DSRT_TEST_DATA) + "/models/";

Json base(int data, int stage, Json more = Json::object()) {
    Json config = {{"model", kModels + "llama"},
                   {"threads", 1},
                   {"gradient_clipping", 0},
                   {"train_micro_batch_size_per_gpu", 2},
                   {"gradient_accumulation_steps", 2},
                   {"parallel", {{"data", data}}},
                   {"logger", {{"default_verbosity", "ERROR"}}},
                   {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}}};
    if (stage)
        config["zero_optimization"] = {{"stage", stage}, {"stage3_param_persistence_threshold", 0}, {"stage3_max_reuse_distance", 0}};
    config.merge_patch(more);
    return config;
}

ds_engine* engine_of(const Json& config) {
    ds_engine* e = nullptr;
    must(ds_engine_create(config.dump().c_str(), nullptr, &e), config.dump());
    return e;
}

ds_batch* batch_of(int64_t rows, int number) {
    constexpr int64_t length = 9;
    ds_batch* b = nullptr;
    must(ds_batch_create(&b), "batch");
    std::vector<int32_t> ids(static_cast<size_t>(rows * length));
    for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<int32_t>((i * 7919 + static_cast<size_t>(number) * 104729 + i * i * 31) % kVocabulary);
    const int64_t grid[2] = {rows, length};
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, 2, grid, ids.data(), ids.size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
    }
    return b;
}

std::vector<float> train(ds_engine* e, int64_t rows, int steps, int micro = 2) {
    std::vector<float> losses;
    for (int i = 0; i < steps * micro; ++i) {
        ds_batch* b = batch_of(rows, i);
        float loss = 0;
        must(ds_forward(e, b, &loss), "forward");
        must(ds_backward(e), "backward");
        must(ds_step(e), "step");
        losses.push_back(loss);
        ds_batch_destroy(b);
    }
    return losses;
}

double metric(ds_engine* e, const char* name) {
    double value = 0;
    must(ds_metric(e, name, &value), name);
    return value;
}

std::vector<float> values_of(ds_engine* e, const char* name, int what) {
    ds_tensor* t = nullptr;
    must(ds_param_get(e, name, what, &t), name);
    int32_t ndim;
    const int64_t* shape;
    must(ds_tensor_info(t, nullptr, &ndim, &shape), name);
    size_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= static_cast<size_t>(shape[d]);
    std::vector<float> values(n);
    must(ds_tensor_read(t, DS_F32, values.data(), n * 4), name);
    ds_tensor_destroy(t);
    return values;
}

std::vector<float> parameters(ds_engine* e, int what = DS_WEIGHT) {
    std::vector<float> all;
    size_t count = 0;
    must(ds_param_count(e, &count), "count");
    for (size_t i = 0; i < count; ++i) {
        const char* name = nullptr;
        must(ds_param_name(e, i, &name), "name");
        const auto one = values_of(e, name, what);
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * double(a[i] - b[i]), norm += double(b[i]) * b[i];
    return a.size() == b.size() ? std::sqrt(difference / std::max(norm, 1e-30)) : INFINITY;
}

// Elements that are exchanged: parameters lie on multiples of 32.
double aligned_elements(ds_engine* e, bool trained_only) {
    size_t count = 0;
    double sum = 0;
    must(ds_param_count(e, &count), "count");
    for (size_t i = 0; i < count; ++i) {
        const char* name = nullptr;
        int32_t ndim, trainable;
        const int64_t* shape;
        must(ds_param_name(e, i, &name), "name");
        must(ds_param_info(e, name, &ndim, &shape, &trainable), name);
        int64_t n = 1;
        for (int d = 0; d < ndim; ++d) n *= shape[d];
        if (trainable || !trained_only) sum += static_cast<double>((n + 31) / 32 * 32);
    }
    return sum;
}

struct Sent {
    double all_reduce, reduce_scatter, all_gather;
};
Sent sent(ds_engine* e) { return {metric(e, "bytes_all_reduce"), metric(e, "bytes_reduce_scatter"), metric(e, "bytes_all_gather")}; }

// Of all ranks together. Psi parameters, N ranks, K micro-batches: one rank's share of a scattered sum or a gathering is (N - 1) / N of its
// bytes.
void volumes() {
    for (const int ranks : {2, 3})
        for (const bool low : {false, true}) {
            const Json more = low ? Json{{"bf16", {{"enabled", true}}}} : Json::object();
            const std::string name = std::to_string(ranks) + " ranks" + (low ? ", bf16" : "") + ", stage ";
            for (int stage = 0; stage <= 3; ++stage) {
                ds_engine* e = engine_of(base(ranks, stage, more));
                train(e, 2 * ranks, 2);
                const double psi = aligned_elements(e, true), one = (ranks - 1) * 4 * psi, k = 2;
                const Sent found = sent(e);
                const auto is = [&](double value, double wanted, double slack, const char* what) {
                    check(std::fabs(value - wanted) <= slack * wanted,
                          name + std::to_string(stage) + ": " + what + " " + std::to_string(value) + ", not " + std::to_string(wanted));
                };
                if (stage == 0) is(found.all_reduce, 2 * one, 0, "all_reduce");
                else check(found.all_reduce == 0, name + std::to_string(stage) + ": all_reduce " + std::to_string(found.all_reduce));
                is(found.reduce_scatter, stage == 0 ? 0 : stage == 1 ? one : k * one, 0, "reduce_scatter");
                // In bf16 the low copies travel; the embedding, which is read in f32, and norms do so in f32.
                // Twice in a micro-batch, but for the table, whose gradient does not need it, and the head, which is used again at once.
                const double once = (ranks - 1) * 4.0 *
                                    static_cast<double>(values_of(e, "model.embed_tokens.weight", DS_WEIGHT).size() +
                                                        values_of(e, "lm_head.weight", DS_WEIGHT).size());
                if (!low)
                    is(found.all_gather, stage == 0 ? 0 : stage < 3 ? one : k * (2 * one - once), stage == 3 ? 0.001 : 0, "all_gather");
                else if (stage > 0)
                    check(found.all_gather > 0.45 * (stage < 3 ? one : 2 * k * one) &&
                              found.all_gather < 0.75 * (stage < 3 ? one : 2 * k * one),
                          name + std::to_string(stage) + ": all_gather " + std::to_string(found.all_gather / one));
                ds_engine_destroy(e);
            }
        }
}

void frozen_gradients_stay() {
    const Json more = {{"param_groups", {{{"match", {"model.layers.*"}}, {"frozen", true}}}}};
    for (int stage = 0; stage <= 2; ++stage) {
        ds_engine* e = engine_of(base(2, stage, more));
        train(e, 4, 1);
        const double psi = aligned_elements(e, true);
        const Sent found = sent(e);
        check(psi < aligned_elements(e, false), "something is frozen");
        check(found.all_reduce + found.reduce_scatter == (stage == 0   ? 2
                                                          : stage == 1 ? 1
                                                                       : 2) *
                                                             4 * psi,
              "stage " + std::to_string(stage) + ": gradients of frozen parameters were sent");
        check(found.all_gather == (stage ? 4 * psi : 0), "stage " + std::to_string(stage) + ": frozen weights were sent");
        ds_engine_destroy(e);
    }
}

// One rank against four of which one has no row.
void fewer_rows_than_ranks() {
    ds_engine* one = engine_of(base(1, 0));
    const auto losses = train(one, 3, 2);
    const auto weights = parameters(one);
    ds_engine_destroy(one);
    for (int stage = 1; stage <= 3; ++stage) {
        ds_engine* e = engine_of(base(4, stage, {{"train_micro_batch_size_per_gpu", 1}}));
        check(apart(train(e, 3, 2), losses) <= 1e-5, "3 rows on 4 ranks, stage " + std::to_string(stage) + ": losses");
        check(apart(parameters(e), weights) <= 1e-4, "3 rows on 4 ranks, stage " + std::to_string(stage) + ": weights");
        ds_batch* b = batch_of(3, 7);
        float loss = 0;
        must(ds_eval(e, b, &loss), "eval");
        ds_tensor* t = nullptr;
        must(ds_output(e, "logits", &t), "logits");
        int32_t ndim;
        const int64_t* shape;
        must(ds_tensor_info(t, nullptr, &ndim, &shape), "logits");
        check(shape[0] == 3, "3 rows on 4 ranks: rows of logits");
        ds_batch* gradients = nullptr;  // which a rank without rows has none of
        must(ds_batch_create(&gradients), "batch");
        must(ds_forward(e, b, nullptr), "forward");
        must(ds_batch_set(gradients, "logits", t), "gradient");
        must(ds_backward_from(e, gradients), "3 rows on 4 ranks: a gradient of logits");
        must(ds_zero_grad(e), "zero_grad");
        ds_batch_destroy(gradients);
        ds_tensor_destroy(t);
        ds_batch_destroy(b);
        ds_engine_destroy(e);
    }
}

// DeepSpeed's v1/zero/test_zero.py: a sum over W ranks is W times the mean.
void sums() {
    const Json sgd = {{"optimizer", {{"type", "SGD"}, {"params", {{"lr", 1}}}}}};
    for (int stage = 0; stage <= 2; ++stage) {
        std::vector<std::vector<float>> moved;
        for (const char* op : {"mean", "sum"}) {
            Json more = sgd;
            more["gradient_allreduce_op"] = op;
            ds_engine* e = engine_of(base(2, stage, more));
            const auto before = parameters(e);
            train(e, 4, 1);
            auto after = parameters(e);
            for (size_t i = 0; i < after.size(); ++i) after[i] -= before[i];
            moved.push_back(after);
            ds_engine_destroy(e);
        }
        for (float& x : moved[0]) x *= 2;
        check(apart(moved[1], moved[0]) < 1e-4, "stage " + std::to_string(stage) + ": a sum is not twice the mean of two");
    }
    ds_engine* e = nullptr;
    check(ds_engine_create(base(2, 3, {{"gradient_allreduce_op", "sum"}}).dump().c_str(), nullptr, &e) == DS_E_CONFIG,
          "sum with stage 3 is refused");
}

void low_gradients_travel_at_half_the_price() {
    for (int stage = 0; stage <= 3; ++stage) {
        std::vector<float> gradient[2];
        double bytes[2];
        for (const bool low : {false, true}) {
            ds_engine* e = engine_of(base(3, stage, low ? Json{{"communication_data_type", "bf16"}} : Json::object()));
            for (int i = 0; i < 2; ++i) {
                ds_batch* b = batch_of(6, i);
                must(ds_forward(e, b, nullptr), "forward");
                must(ds_backward(e), "backward");
                ds_batch_destroy(b);
            }
            if (stage >= 2) gradient[low] = parameters(e, DS_GRAD);
            must(ds_step(e), "step");
            bytes[low] = sent(e).all_reduce + sent(e).reduce_scatter;
            if (stage < 2) gradient[low] = parameters(e);
            ds_engine_destroy(e);
        }
        const double error = apart(gradient[1], gradient[0]);
        check(bytes[1] * 2 == bytes[0],
              "stage " + std::to_string(stage) + ": bf16 gradients take " + std::to_string(bytes[1] / bytes[0]) + " of f32's bytes");
        check(error > 0 && error < 1e-2,
              "stage " + std::to_string(stage) + ": gradients by way of bf16 are apart by " + std::to_string(error));
    }
}

// What stays on one rank from step to step, of f32 Adam: weights 4, gradients 4 and state 8 bytes a parameter, each over N from its stage
// on.
void memory() {
    for (const int ranks : {1, 2, 4})
        for (int stage = 0; stage <= 3; ++stage) {
            char* text = nullptr;
            must(ds_plan(base(ranks, stage).dump().c_str(), nullptr, &text), "plan");
            const Json plan = Json::parse(text);
            ds_free(text);
            const Json bytes = plan["memory_bytes"];
            const double psi = plan["parameters"].get<double>();
            const auto near = [&](const char* kind, double wanted) {
                const double found = bytes[kind].get<double>();
                check(std::fabs(found - wanted) <= 0.03 * wanted, "plan of stage " + std::to_string(stage) + " on " +
                                                                      std::to_string(ranks) + ": " + kind + " " + std::to_string(found) +
                                                                      ", not " + std::to_string(wanted));
            };
            near("weights", 4 * psi / (stage >= 3 ? ranks : 1));
            near("gradients", 4 * psi / (stage >= 2 ? ranks : 1));
            near("optimizer_state", 8 * psi / (stage >= 1 ? ranks : 1));
        }
}

// Rows of an embedding that occur are few: they travel as rows, and the sums are the same, bit for bit.
void rows_travel_where_that_is_less() {
    const Json model = {
        {"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}}, {"n_layer", 1}, {"n_embd", 16}, {"n_head", 2}, {"vocab_size", 2000},
        {"n_positions", 16},    {"tie_word_embeddings", false}};
    for (int stage = 0; stage <= 1; ++stage) {
        std::vector<float> weights[2];
        double bytes[2];
        for (const bool sparse : {false, true}) {
            ds_engine* e = engine_of(base(3, stage, {{"model", model}, {"sparse_gradients", sparse}}));
            train(e, 6, 2);
            weights[sparse] = parameters(e);
            bytes[sparse] = sent(e).all_reduce + sent(e).reduce_scatter + sent(e).all_gather;
            ds_engine_destroy(e);
        }
        // 6 rows of 9 tokens name at most 54 of 2000 words in a micro-batch; a step has two.
        const double dense = (stage ? 1 : 2) * 2 * 4 * 2000.0 * 16, most = 2 * (2 * 54 * (16 * 4 + 4) + 3 * 8);
        check(weights[0] == weights[1], "stage " + std::to_string(stage) + ": rows sum to other bits");
        check(bytes[1] < bytes[0] - dense + 2 * most && bytes[1] > bytes[0] - dense, "stage " + std::to_string(stage) + ": rows take " +
                                                                                         std::to_string(bytes[1]) + " bytes, all of them " +
                                                                                         std::to_string(bytes[0]));
    }
    ds_engine* e = nullptr;
    check(ds_engine_create(base(2, 2, {{"sparse_gradients", true}}).dump().c_str(), nullptr, &e) == DS_E_CONFIG &&
              std::string(ds_last_error()).find("sparse_gradients") != std::string::npos,
          "sparse_gradients with stage 2 is refused by name");
}

std::string folder;

int64_t bytes_in(const std::string& path) {
    int64_t bytes = 0;
    if (std::filesystem::exists(path))
        for (const auto& entry : std::filesystem::directory_iterator(path)) bytes += static_cast<int64_t>(entry.file_size());
    return bytes;
}

// State and weights in files: the same bits as in memory, from step to step and through a checkpoint.
void disks() {
    struct Kind {
        const char* name;
        int data, stage;
        bool state, weights, low;
    };
    for (const Kind& kind : {Kind{"state", 1, 0, true, false, false},
                             {"state of two ranks", 2, 2, true, false, false},
                             {"weights", 1, 3, false, true, false},
                             {"weights of two ranks", 2, 3, true, true, false},
                             {"low copies", 2, 3, true, true, true}}) {
        const std::string path = folder + "/disk", what = std::string(kind.name) + " on disk: ";
        Json more = Json::object(), zero = {{"stage", kind.stage}};
        if (kind.low) more["bf16"] = {{"enabled", true}};
        const auto config = [&](bool on_disk) {
            Json z = zero;
            if (kind.state && on_disk) z["offload_optimizer"] = {{"device", "nvme"}, {"nvme_path", path}, {"buffer_count", 2}};
            if (kind.weights && on_disk)
                z["offload_param"] = {{"device", "nvme"}, {"nvme_path", path}, {"max_in_cpu", 0}, {"buffer_count", 3}};
            Json all = more;
            all["zero_optimization"] = z;
            return base(kind.data, kind.stage, all);
        };
        ds_engine* memory = engine_of(config(false));
        const auto losses = train(memory, 4, 2);
        const auto weights = parameters(memory), moments = parameters(memory, DS_SECOND_MOMENT);
        must(ds_save(memory, (folder + "/saved").c_str(), "memory", nullptr), "save");
        ds_engine* disk = engine_of(config(true));
        check(train(disk, 4, 2) == losses, what + "losses");
        check(parameters(disk) == weights, what + "weights");
        check(parameters(disk, DS_SECOND_MOMENT) == moments, what + "moments");
        const double psi = aligned_elements(disk, true);
        const double wanted = (kind.state ? 8 * psi : 0) + (kind.weights ? (kind.low ? 6 : 4) * psi : 0);
        check(std::fabs(static_cast<double>(bytes_in(path)) - wanted) <= 0.02 * wanted,
              what + std::to_string(bytes_in(path)) + " bytes in the folder, not " + std::to_string(wanted));
        must(ds_save(disk, (folder + "/saved").c_str(), "disk", nullptr), "save");
        // Each goes on from the other's checkpoint.
        must(ds_load(disk, (folder + "/saved").c_str(), "memory", nullptr), "load");
        must(ds_load(memory, (folder + "/saved").c_str(), "disk", nullptr), "load");
        check(train(disk, 4, 1) == train(memory, 4, 1), what + "losses after loading");
        check(parameters(disk) == parameters(memory), what + "weights after loading");
        must(ds_export(disk, (folder + "/exported").c_str(), nullptr), "export");
        ds_batch* b = batch_of(4, 3);
        float x = 0, y = 1;
        must(ds_eval(disk, b, &x), "eval");
        must(ds_eval(memory, b, &y), "eval");
        check(x == y, what + "loss of an evaluation");
        ds_batch_destroy(b);
        ds_engine_destroy(disk);
        ds_engine_destroy(memory);
        check(bytes_in(path) == 0, what + "files stay behind");
    }
}

void broken_disks() {
    const auto error = [](const Json& zero) {
        ds_engine* e = nullptr;
        ds_status status = ds_engine_create(base(1, 3, {{"zero_optimization", zero}}).dump().c_str(), nullptr, &e);
        if (status >= 0) {
            ds_batch* b = batch_of(2, 0);
            for (int i = 0; i < 2 && status >= 0; ++i)
                if ((status = ds_forward(e, b, nullptr)) >= 0 && (status = ds_backward(e)) >= 0) status = ds_step(e);
            ds_batch_destroy(b);
        }
        const std::string message = status < 0 ? std::string(ds_status_name(status)) + " " + ds_last_error() : "";
        ds_engine_destroy(e);
        return message;
    };
    const std::string file = folder + "/a_file";
    std::ofstream(file) << "no folder";
    for (const char* section : {"offload_optimizer", "offload_param"}) {
        Json place = {{"device", "nvme"}, {"nvme_path", file + "/below"}};
        if (std::string(section) == "offload_param") place["max_in_cpu"] = 0;
        const std::string missing = error({{section, place}});
        check(missing.find("DS_E_IO") == 0 && missing.find(section) != std::string::npos &&
                  missing.find(file + "/below") != std::string::npos,
              "a missing disk: " + missing);
        place.erase("nvme_path");
        const std::string unnamed = error({{section, place}});
        check(unnamed.find("DS_E_CONFIG") == 0 && unnamed.find(std::string(section) + ".nvme_path") != std::string::npos,
              "no path: " + unnamed);
    }
    // A disk with less room than the state needs: /dev/shm of a size would need rights, a limit on files does not.
    const rlimit before = [] {
        rlimit l;
        getrlimit(RLIMIT_FSIZE, &l);
        return l;
    }();
    rlimit small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string full = error({{"offload_optimizer", {{"device", "nvme"}, {"nvme_path", folder + "/full"}}}});
    setrlimit(RLIMIT_FSIZE, &before);
    check(full.find("DS_E_IO") == 0 && full.find(folder + "/full") != std::string::npos && full.find("reserved") != std::string::npos,
          "a full disk: " + full);
}

}  // namespace

int main() {
    folder = (std::filesystem::temp_directory_path() / "dsrt-zero-XXXXXX").string();
    if (!mkdtemp(folder.data())) return 1;
    volumes();
    frozen_gradients_stay();
    fewer_rows_than_ranks();
    sums();
    low_gradients_travel_at_half_the_price();
    memory();
    rows_travel_where_that_is_less();
    disks();
    broken_disks();
    std::filesystem::remove_all(folder);
    return checks::result();
}
