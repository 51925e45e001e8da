// Growing batches, curricula, skipped blocks and dropped tokens, through the ABI: each against plain engines that are given by hand what
// the feature is to bring about; under several layouts; and resumed from checkpoints.
#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/training.h"

namespace {

using ds::Json;
using training::check, training::Folder, training::must, training::numbers, training::Numbers;
using Ids = std::vector<int32_t>;

double distance(const Numbers& a, const Numbers& b) { return a.empty() ? INFINITY : training::distance(a, b, 1e-6); }
void close(const Numbers& found, const Numbers& exact, double bound, const std::string& what) {
    const double d = distance(found, exact);
    check(d <= bound, what + ": " + std::to_string(d * 1e6) + "e-6 off");
}

struct Batch {
    ds_batch* b = nullptr;
    Batch() { must(ds_batch_create(&b), "batch"); }
    Batch(const Batch&) = delete;
    ~Batch() { ds_batch_destroy(b); }
    Batch& put(const char* name, int64_t rows, const Ids& values) {
        const int64_t shape[2] = {rows, static_cast<int64_t>(values.size()) / rows};
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_I32, 2, shape, values.data(), values.size() * 4, &t), name);
        must(ds_batch_set(b, name, t), name);
        ds_tensor_destroy(t);
        return *this;
    }
};

// Rows of ids that differ from step to step.
Ids some_ids(int64_t rows, int64_t length, int64_t step) {
    Ids ids;
    for (int64_t i = 0; i < rows * length; ++i) ids.push_back(static_cast<int32_t>((i * i * 7 + i * 13 + step * 31 + 5) % 97));
    return ids;
}
Ids part_of(const Ids& all, int64_t rows, int64_t first, int64_t last) {
    const auto length = static_cast<int64_t>(all.size()) / rows;
    return {all.begin() + first * length, all.begin() + last * length};
}

struct Engine : training::Engine {
    using training::Engine::Engine, training::Engine::eval;

    // One micro-batch of a language model on ids; whether it ended an update.
    bool micro(int64_t rows, const Ids& ids, double* loss = nullptr) const {
        Batch batch;
        const double value = forward(batch.put("input_ids", rows, ids).put("labels", rows, ids).b);
        if (loss) *loss = value;
        must(ds_backward(e), "backward");
        const ds_status status = ds_step(e);
        must(status, "step");
        return status == DS_OK;
    }
    double eval(int64_t rows, const Ids& ids) const {
        Batch batch;
        return eval(batch.put("input_ids", rows, ids).put("labels", rows, ids).b);
    }
    void scale(const std::string& name, double factor) const {
        Numbers values = param(name);
        for (double& x : values) x *= factor;
        set(name, values);
    }
};

Json config_of(const std::string& model, Json more = Json::object()) {
    Json config = {{"model", std::string(DSRT_TEST_DATA) + "/models/" + model},
                   {"train_micro_batch_size_per_gpu", 2},
                   {"threads", 1},
                   {"gradient_clipping", 0},
                   {"optimizer", {{"type", "SGD"}, {"params", {{"lr", 0.05}}}}}};
    config.merge_patch(more);
    return config;
}
std::string refusal(const Json& config) {
    ds_engine* e = nullptr;
    const ds_status status = ds_engine_create(config.dump().c_str(), nullptr, &e);
    ds_engine_destroy(e);
    return status < 0 ? std::string(ds_status_name(status)) + ": " + ds_last_error() : "accepted";
}
void refused(const Json& config, const std::string& part) {
    const std::string said = refusal(config);
    check(said.find(part) != std::string::npos, "expected \"" + part + "\", found \"" + said + "\"");
}

// --- the batch grows ---

// Two rows an update, four from the third on, eight from the fifth: the updates are those of plain engines with that much accumulation and
// that rate.
void batch_grows_by_steps(const Json& layout, int64_t micro_rows, const char* scaling, const std::vector<double>& rates) {
    Json more = {{"batch_growth", {{"schedule", {{2, 4}, {4, 8}}}, {"lr_scaling", scaling}}}};
    more.merge_patch(layout);
    const Engine grown(config_of("gpt2", more));
    const int64_t ranks =
                      layout.contains("parallel") && layout["parallel"].contains("data") ? layout["parallel"]["data"].get<int64_t>() : 1,
                  unit = micro_rows * ranks;
    Folder folder;
    const std::vector<int64_t> rows = {2, 2, 4, 4, 8, 8};
    const std::string name = "growth under " + layout.dump() + ": ";
    int64_t step = 0;
    for (const int64_t n : rows) {
        check(grown.metric("batch_size") == static_cast<double>(n), name + "rows of update " + std::to_string(step));
        check(std::fabs(grown.metric("lr") - 0.05 * rates[static_cast<size_t>(step)]) < 1e-12,
              name + "rate of update " + std::to_string(step));
        must(ds_save(grown.e, folder.path.c_str(), "before", "{\"weights_only\": true}"), "save");
        const Engine plain(config_of("gpt2", {{"train_micro_batch_size_per_gpu", 2},
                                              {"gradient_accumulation_steps", n / 2},
                                              {"optimizer", {{"params", {{"lr", 0.05 * rates[static_cast<size_t>(step)]}}}}}}));
        must(ds_load(plain.e, folder.path.c_str(), "before", nullptr), "load");
        const Ids ids = some_ids(n, 9, step);
        for (int64_t at = 0; at < n; at += unit)
            check(grown.micro(unit, part_of(ids, n, at, at + unit)) == (at + unit == n),
                  name + "the boundary of update " + std::to_string(step));
        for (int64_t at = 0; at < n; at += 2)
            check(plain.micro(2, part_of(ids, n, at, at + 2)) == (at + 2 == n), name + "the plain boundary");
        for (const std::string& p : grown.names()) close(grown.param(p), plain.param(p), 2e-6, name + p);
        ++step;
    }
}

void noise_scale_is_measured(const Json& layout, int64_t micro_rows, int64_t accumulation) {
    Json more = {{"train_micro_batch_size_per_gpu", micro_rows},
                 {"gradient_accumulation_steps", accumulation},
                 {"batch_growth", {{"by", "noise_scale"}, {"max_batch_size", 64}, {"smoothing", 0.0}, {"patience", 1}, {"factor", 2.0}}}};
    more.merge_patch(layout);
    const std::string name = "noise scale under " + layout.dump() + ": ";
    const int64_t ranks =
                      layout.contains("parallel") && layout["parallel"].contains("data") ? layout["parallel"]["data"].get<int64_t>() : 1,
                  rows = micro_rows * ranks * accumulation;
    const bool by_rank = ranks > 1 && !layout.contains("zero_optimization");
    Ids ids;
    const auto squares = [&](int64_t first, int64_t last) {
        const Engine plain(config_of("gpt2", {{"train_micro_batch_size_per_gpu", last - first}}));
        plain.micro(last - first, part_of(ids, rows, first, last));
        return plain.metric("grad_norm") * plain.metric("grad_norm");
    };
    const double b = static_cast<double>(by_rank ? micro_rows : micro_rows * ranks), all = static_cast<double>(rows);
    double expected = 0;
    for (int64_t seed = 0; seed < 40 && expected <= 0;
         ++seed) {  // of so few rows an estimate may be below zero; one that is not is looked for
        ids = some_ids(rows, 11, seed);
        for (size_t i = 0; i < ids.size(); ++i)
            if (i % 11) ids[i] = ids[i % 11] + static_cast<int32_t>(i / 11 % 2);  // rows that have much in common
        const double big = squares(0, rows);
        double small = 0;
        if (by_rank)
            for (int64_t r = 0; r < ranks; ++r) small += squares(r * micro_rows, (r + 1) * micro_rows) / static_cast<double>(ranks);
        else small = squares(0, micro_rows * ranks);
        const double square = (all * big - b * small) / (all - b), trace = (small - big) / (1 / b - 1 / all);
        expected = square > 0 && trace > 0 ? trace / square : 0;
    }
    const Engine engine(config_of("gpt2", more));
    for (int64_t at = 0; at < rows; at += micro_rows * ranks)
        engine.micro(micro_rows * ranks, part_of(ids, rows, at, at + micro_rows * ranks));
    check(expected > 0 && std::fabs(engine.metric("noise_scale") / expected - 1) < 1e-3,
          name + std::to_string(engine.metric("noise_scale")) + " found, " + std::to_string(expected) + " expected");
    const double unit = static_cast<double>(micro_rows * ranks);
    check(engine.metric("batch_size") == std::max(all, std::min(std::floor(std::min(expected, 2 * all) / unit) * unit, 64.0)),
          name + "rows of the next update: " + std::to_string(engine.metric("batch_size")));
}

// --- rows are cut ---

Json curriculum(int64_t total) {
    return {{"curriculum_learning",
             {{"enabled", true},
              {"curriculum_type", "seqlen"},
              {"min_difficulty", 4},
              {"max_difficulty", 16},
              {"schedule_type", "fixed_linear"},
              {"schedule_config", {{"total_curriculum_step", total}, {"difficulty_step", 2}}}}}};
}

void rows_are_cut(const Json& layout) {
    Json more = curriculum(4);
    more.merge_patch(layout);
    const Engine cut(config_of("gpt2", more)), plain(config_of("gpt2"));
    const std::vector<int64_t> lengths = {6, 10, 12, 16, 16};  // floor(t / 4 * 12 + 4), even
    for (size_t step = 0; step < lengths.size(); ++step) {
        const Ids ids = some_ids(2, 16, static_cast<int64_t>(step));
        Ids shorter;
        for (int64_t r = 0; r < 2; ++r) shorter.insert(shorter.end(), ids.begin() + r * 16, ids.begin() + r * 16 + lengths[step]);
        double found = 0, expected = 0;
        close({cut.eval(2, ids)}, {plain.eval(2, ids)}, 2e-6, "evaluation takes whole rows");
        cut.micro(2, ids, &found);
        plain.micro(2, shorter, &expected);
        close({found}, {expected}, 2e-6, "a row of training is cut: step " + std::to_string(step) + " under " + layout.dump());
        check(cut.metric("curriculum_difficulty") == static_cast<double>(lengths[step]), "the length is a metric");
    }
    for (const std::string& p : cut.names()) close(cut.param(p), plain.param(p), 5e-6, "curriculum: " + p);
}

// --- blocks are skipped ---

struct Family {
    const char* model;
    const char* blocks;
    std::vector<const char*> last;  // parameters that are linear in what a block adds to its input
};
const Family kGpt2{"gpt2", "transformer.h.", {"attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"}};
const Family kLlama{"llama", "model.layers.", {"self_attn.o_proj.weight", "mlp.down_proj.weight"}};

// theta 0 and a large gamma: from the third forward on, block i of L is kept with probability 1 - i / L. A skipped block is one that adds
// nothing, a kept one adds 1 / p as much; gradients with respect to what is multiplied are 1 / p as large.
void blocks_are_skipped(const Family& family, const Json& layout, int rows) {
    Json more = {{"progressive_layer_drop", {{"enabled", true}, {"theta", 0.0}, {"gamma", 100.0}}}};
    more.merge_patch(layout);
    const Engine dropped(config_of(family.model, more));
    const std::string name = std::string("layer drop of ") + family.model + " under " + layout.dump() + ": ";
    int skipped = 0;
    constexpr int kSteps = 14;
    Folder folder;
    for (int step = 0; step < kSteps; ++step) {
        const Ids ids = some_ids(rows, 9, step);
        const double p = step < 2 ? 1 : 0.5;  // of the second block of two; the first is always kept
        must(ds_save(dropped.e, folder.path.c_str(), "before", "{\"weights_only\": true}"), "save");
        Batch batch;
        const double found = dropped.forward(batch.put("input_ids", rows, ids).put("labels", rows, ids).b);
        const bool skips = dropped.metric("layers_skipped") > 0;
        skipped += skips;
        check(!(step < 2 && skips), name + "nothing is skipped at first");
        const Engine plain(config_of(family.model));
        must(ds_load(plain.e, folder.path.c_str(), "before", nullptr), "load");
        for (const char* last : family.last) plain.scale(std::string(family.blocks) + "1." + last, skips ? 0 : 1 / p);
        Batch same;
        const double expected = plain.forward(same.put("input_ids", rows, ids).put("labels", rows, ids).b);
        close({found}, {expected}, 3e-6, name + "loss of step " + std::to_string(step));
        must(ds_backward(dropped.e), "backward");
        must(ds_backward(plain.e), "backward");
        for (const std::string& q : dropped.names()) {
            const bool second = q.find(std::string(family.blocks) + "1.") != q.npos,
                       scaled = second &&
                                std::any_of(family.last.begin(), family.last.end(), [&](const char*last) { return q.ends_with(last); });
            Numbers gradient = dropped.param(q, DS_GRAD), exact = plain.param(q, DS_GRAD);
            if (second && skips)
                check(std::all_of(gradient.begin(), gradient.end(), [](double x) { return x == 0; }),
                      name + "a skipped block has no gradient: " + q);
            else {
                if (scaled)
                    for (double& x : exact) x /= p;
                double size = 0;
                for (const double x : exact) size = std::max(size, std::fabs(x));
                if (size > 1e-7) close(gradient, exact, 3e-5, name + "gradient of " + q);
            }
        }
        must(ds_step(dropped.e), "step");
    }
    check(skipped > 1 && skipped < kSteps - 3, name + std::to_string(skipped) + " of 12 times a half was met");
}

// --- tokens bypass blocks ---

Json random_ltd(Json blocks, int64_t least, int64_t most, int64_t steps = 1000) {
    return {{"data_efficiency",
             {{"enabled", true},
              {"data_routing",
               {{"enabled", true},
                {"random_ltd",
                 {{"enabled", true},
                  {"total_layer_num", 2},
                  {"random_ltd_layer_num", blocks.size()},
                  {"random_ltd_layer_id", blocks},
                  {"random_ltd_schedule",
                   {{"min_value", least},
                    {"max_value", most},
                    {"schedule_type", "fixed_linear"},
                    {"schedule_config", {{"require_steps", steps}, {"seq_per_step", 1}}}}}}}}}}}};
}

// The second block adds nothing, tokens bypass the first. A token that bypassed it comes out as from an engine whose first block adds
// nothing, too; the others as from a plain engine that is given them alone, with their positions.
void tokens_bypass_blocks(const Family& family, const Json& layout, int64_t rows) {
    constexpr int64_t kLength = 12, kKept = 5;
    Json more = random_ltd({0}, kKept, 12);
    more["outputs"] = {"last_hidden_state"};
    more.merge_patch(layout);
    const std::string name = std::string("random-LTD of ") + family.model + " under " + layout.dump() + ": ";
    const Engine dropped(config_of(family.model, more)), neutral(config_of(family.model)), plain(config_of(family.model));
    for (const char* last : family.last) {
        for (const Engine* e : {&dropped, &neutral, &plain}) e->scale(std::string(family.blocks) + "1." + last, 0);
        neutral.scale(std::string(family.blocks) + "0." + last, 0);
    }
    std::vector<std::vector<int64_t>> before;
    for (int step = 0; step < 3; ++step) {
        const Ids ids = some_ids(rows, kLength, step), labels = some_ids(rows, kLength, step + 50);
        Batch whole, whole2;
        dropped.forward(whole.put("input_ids", rows, ids).put("labels", rows, labels).b);
        const Numbers found = dropped.output("last_hidden_state");
        neutral.forward(whole2.put("input_ids", rows, ids).put("labels", rows, labels).b);
        const Numbers bypassed = neutral.output("last_hidden_state");
        const int64_t width = static_cast<int64_t>(found.size()) / (rows * kLength);
        std::vector<std::vector<int64_t>> kept(static_cast<size_t>(rows));
        for (int64_t i = 0; i < rows * kLength; ++i) {
            const auto row = [&](const Numbers& all) { return Numbers(all.begin() + i * width, all.begin() + (i + 1) * width); };
            if (distance(row(found), row(bypassed)) > 1e-5) kept[static_cast<size_t>(i / kLength)].push_back(i % kLength);
        }
        check(kept != before, name + "other tokens each time");
        before = kept;
        // The kept tokens of each row, and one more behind them, so that the last of them has a label to predict, too.
        Ids few, few_labels, positions;
        for (int64_t r = 0; r < rows; ++r) {
            const auto& row = kept[static_cast<size_t>(r)];
            check(static_cast<int64_t>(row.size()) == kKept, name + std::to_string(row.size()) + " tokens of a row were kept, not 5");
            few_labels.push_back(0);
            for (const int64_t t : row) {
                few.push_back(ids[static_cast<size_t>(r * kLength + t)]);
                positions.push_back(static_cast<int32_t>(t));
                few_labels.push_back(t + 1 < kLength ? labels[static_cast<size_t>(r * kLength + t + 1)] : -100);
            }
            few.push_back(0);
            positions.push_back(0);
        }
        Batch part;
        plain.forward(part.put("input_ids", rows, few)
                          .put("position_ids", rows, positions)
                          .put("attention_mask", rows, Ids(few.size(), 1))
                          .put("labels", rows, few_labels)
                          .b);
        const Numbers alone = plain.output("last_hidden_state");
        Numbers a, b;
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t k = 0; k < kKept; ++k)
                for (int64_t c = 0; c < width; ++c) {
                    a.push_back(
                        found[static_cast<size_t>((r * kLength + kept[static_cast<size_t>(r)][static_cast<size_t>(k)]) * width + c)]);
                    b.push_back(alone[static_cast<size_t>((r * (kKept + 1) + k) * width + c)]);
                }
        close(a, b, 3e-6, name + "what kept tokens become");
        // Mean losses count all labels, or those of the kept tokens.
        must(ds_backward(dropped.e), "backward");
        must(ds_backward(plain.e), "backward");
        const double share =
            static_cast<double>(std::count_if(few_labels.begin(), few_labels.end(), [](int32_t l) { return l != -100; }) - rows) /
            static_cast<double>(rows * (kLength - 1));
        for (const char* last : family.last) {
            const std::string p = std::string(family.blocks) + "0." + last;
            Numbers exact = plain.param(p, DS_GRAD);
            for (double& x : exact) x *= share;
            close(dropped.param(p, DS_GRAD), exact, 3e-5, name + "gradient of " + p);
        }
        for (const Engine* e : {&dropped, &plain, &neutral}) must(ds_zero_grad(e->e), "zero_grad");
    }
}

void rows_that_fit_stay_whole() {
    const Engine dropped(config_of("gpt2", random_ltd({0, 1}, 9, 12))), plain(config_of("gpt2"));
    for (int step = 0; step < 2; ++step) {
        double a = 0, b = 0;
        dropped.micro(2, some_ids(2, 9, step), &a);
        plain.micro(2, some_ids(2, 9, step), &b);
        check(a == b, "random-LTD: rows no longer than what is kept are whole");
    }
}

// --- layouts agree, resume is exact ---

Json everything(const Json& layout) {
    Json more = random_ltd({0, 1}, 4, 12, 20);
    more.merge_patch(curriculum(6));
    more.merge_patch(
        {{"progressive_layer_drop", {{"enabled", true}, {"theta", 0.3}, {"gamma", 0.4}}},
         {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}}}}},
         {"model_overrides", {{"resid_pdrop", 0.1}, {"attn_pdrop", 0.1}}},
         {"batch_growth", {{"by", "plateau"}, {"max_batch_size", 16}, {"patience", 2}, {"smoothing", 0.5}, {"threshold", 0.3}}}});
    more.merge_patch(layout);
    return config_of("gpt2", more);
}

std::vector<double> train(const Engine& engine, int64_t rows, int64_t first, int64_t updates) {
    std::vector<double> losses;
    for (int64_t step = first; step < first + updates; ++step)
        for (int64_t micro = 0;; ++micro) {
            double loss = 0;
            const bool ended = engine.micro(rows, some_ids(rows, 16, 10 * step + micro), &loss);
            losses.push_back(loss);
            if (ended || micro > 40) break;
        }
    return losses;
}

void layouts_agree(const Json& layout, int64_t micro_rows) {
    Json one = everything(Json::object()), other = everything(layout);
    one["train_micro_batch_size_per_gpu"] = 4;
    other["train_micro_batch_size_per_gpu"] = micro_rows;
    const Engine a(one), b(other);
    close(train(b, 4, 0, 8), train(a, 4, 0, 8), 2e-4, "everything under " + layout.dump());
    check(a.metric("batch_size") > 4, "the batch has grown");
    check(a.metric("batch_size") == b.metric("batch_size"), "the batch has grown alike");
}

void resume_is_bit_equal() {
    Folder folder;
    const Json all = everything(Json::object());
    const Engine whole(all), first(all), second(all);
    train(whole, 2, 0, 9);
    train(first, 2, 0, 5);
    must(ds_save(first.e, folder.path.c_str(), "half", nullptr), "save");
    must(ds_load(second.e, folder.path.c_str(), "half", nullptr), "load");
    check(second.metric("batch_size") == first.metric("batch_size"), "the batch's size is resumed");
    train(second, 2, 5, 4);
    check(whole.metric("batch_size") > 2, "the batch has grown");
    check(whole.metric("batch_size") == second.metric("batch_size") && whole.metric("lr") == second.metric("lr"),
          "rows and rate are resumed");
    for (const std::string& p : whole.names()) check(whole.param(p) == second.param(p), "resume is bit-equal: " + p);
}

void mistakes_are_named() {
    refused(config_of("gpt2", {{"batch_growth", {{"by", "noise_scale"}, {"max_batch_size", 8}}}}),
            "DS_E_CONFIG: config: batch_growth.by: noise_scale compares");
    refused(config_of("gpt2", {{"batch_growth", {{"by", "noise_scale"}, {"max_batch_size", 8}}}, {"parallel", {{"sequence", 2}}}}),
            "DS_E_UNSUPPORTED: config: batch_growth.by: noise_scale");
    refused(config_of("gpt2", {{"batch_growth", {{"by", "never"}}}}), "config: batch_growth.by");
    refused(config_of("gpt2", {{"curriculum_learning", {{"enabled", true}, {"curriculum_type", "vocabulary"}}}}),
            "config: curriculum_learning.curriculum_type: must be seqlen");
    refused(config_of("gpt2", random_ltd({0, 2}, 4, 8)), "random_ltd_layer_id: must be a list of blocks from 0 to 1, is [0,2]");
    Json miscounted = random_ltd({0}, 4, 8);
    miscounted["data_efficiency"]["data_routing"]["random_ltd"]["total_layer_num"] = 24;
    refused(config_of("gpt2", miscounted), "total_layer_num: is 24, but this model has 2 blocks");
    Json piped = random_ltd({0}, 4, 8);
    piped["parallel"] = {{"pipeline", 2}};
    refused(config_of("gpt2", piped), "DS_E_UNSUPPORTED: config: data_efficiency.data_routing.random_ltd: not built for parallel.pipeline");
    refused(config_of("t5-translation", {{"progressive_layer_drop", {{"enabled", true}}}}),
            "DS_E_UNSUPPORTED: config: progressive_layer_drop: not built for encoder-decoders");
    Json untold = {
        {"data_efficiency", {{"enabled", true}, {"data_sampling", {{"enabled", true}, {"dynamic_batching", {{"enabled", true}}}}}}}};
    refused(config_of("gpt2", untold), "dynamic_batching.max_tokens: needed");
}

}  // namespace

int main() {
    const Json one = Json::object(), data2 = {{"parallel", {{"data", 2}}}}, tensor2 = {{"parallel", {{"tensor", 2}}}},
               stage2 = {{"parallel", {{"data", 2}}}, {"zero_optimization", {{"stage", 2}}}};
    Json small = data2, small2 = stage2;
    small["train_micro_batch_size_per_gpu"] = small2["train_micro_batch_size_per_gpu"] = 1;
    batch_grows_by_steps(one, 2, "linear", {1, 1, 2, 2, 4, 4});
    batch_grows_by_steps(small, 1, "sqrt", {1, 1, std::sqrt(2.0), std::sqrt(2.0), 2, 2});
    batch_grows_by_steps(small2, 1, "none", {1, 1, 1, 1, 1, 1});
    batch_grows_by_steps(tensor2, 2, "linear", {1, 1, 2, 2, 4, 4});
    batch_grows_by_steps({{"parallel", {{"pipeline", 2}}}}, 2, "linear", {1, 1, 2, 2, 4, 4});
    noise_scale_is_measured(one, 2, 3);
    noise_scale_is_measured(data2, 2, 1);
    noise_scale_is_measured(stage2, 1, 2);
    noise_scale_is_measured(tensor2, 2, 2);
    rows_are_cut(one);
    rows_are_cut({{"parallel", {{"pipeline", 2}}}});
    blocks_are_skipped(kGpt2, one, 2);
    blocks_are_skipped(kLlama, {{"parallel", {{"data", 2}, {"tensor", 2}}}, {"train_micro_batch_size_per_gpu", 1}}, 2);
    tokens_bypass_blocks(kGpt2, one, 2);
    tokens_bypass_blocks(kLlama, tensor2, 2);
    rows_that_fit_stay_whole();
    layouts_agree(data2, 2);
    layouts_agree(
        {{"parallel", {{"data", 2}, {"tensor", 2}}}, {"zero_optimization", {{"stage", 3}, {"stage3_param_persistence_threshold", 10}}}}, 2);
    resume_is_bit_equal();
    mistakes_are_named();
    return checks::result();
}
