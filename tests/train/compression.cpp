// compression_training through the ABI: an engine that compresses computes what a plain engine computes whose weights were compressed by
// hand, by the formulas of DeepSpeed's compression/utils.py; gradients pass straight through; masks follow schedules, layouts and
// checkpoints. What is exported is seen by compressed_exports.cpp.
#include "support/compressing.h"

using namespace compressing;

namespace {

void pruning(const Json& layout) {
    const Engine fresh(config_of("bert-sentiment"));
    const Numbers up = fresh.param(kUp0 + ".weight");
    const size_t outs = static_cast<size_t>(fresh.shape(kUp0 + ".weight")[0]), ins = static_cast<size_t>(fresh.shape(kUp0 + ".weight")[1]);
    const std::string name = " under " + layout.dump();
    {
        const Numbers mask = largest(sizes(up), 0.3);
        computes_as_by_hand(
            "single weights by size" + name, "bert-sentiment",
            technique("sparse_pruning", {{"method", "l1"}}, {{"dense_ratio", 0.3}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                check(e.param(kUp0 + ".sparse_pruning_mask") == mask, "the mask is of the first weights");
                return Effective{times(e.param(kUp0 + ".weight"), mask), {}, [&](const Numbers& g) { return times(g, mask); }};
            },
            {}, layout);
    }
    {
        Numbers mask(up.size(), 0);
        for (size_t at = 0; at < up.size(); at += 4) {
            const Numbers four =
                largest(sizes({up.begin() + static_cast<ptrdiff_t>(at), up.begin() + static_cast<ptrdiff_t>(at) + 4}), 0.5);
            std::copy(four.begin(), four.end(), mask.begin() + static_cast<ptrdiff_t>(at));
        }
        computes_as_by_hand(
            "two of four" + name, "bert-sentiment",
            technique("sparse_pruning", {{"block_pattern", "2:4"}}, {{"dense_ratio", 0.5}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                return Effective{times(e.param(kUp0 + ".weight"), mask), {}, [&](const Numbers& g) { return times(g, mask); }};
            },
            {}, layout);
    }
    {
        Numbers norms(outs, 0);
        for (size_t i = 0; i < up.size(); ++i) norms[i / ins] += std::fabs(up[i]);
        const Numbers rows = largest(norms, 0.6), mask = by_row(rows, ins);
        computes_as_by_hand(
            "rows by size" + name, "bert-sentiment",
            technique("row_pruning", {{"method", "l1"}}, {{"dense_ratio", 0.6}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                return Effective{times(e.param(kUp0 + ".weight"), mask), times(e.param(kUp0 + ".bias"), rows),
                                 [&](const Numbers& g) { return times(g, mask); }};
            },
            {}, layout);
    }
    // Scores are trained by what their mask multiplies.
    const auto scores_learn = [](const std::string& scores, const std::string& module, const std::function<size_t(size_t)>& score_of) {
        return [=](const Engine& compressed, const Engine& plain) {
            const Numbers w = compressed.param(module + ".weight"), g = plain.param(module + ".weight", DS_GRAD);
            Numbers exact(compressed.param(scores).size(), 0);
            for (size_t i = 0; i < w.size(); ++i) exact[score_of(i)] += w[i] * g[i];
            if (scores.ends_with("row_mask_scores")) {
                const Numbers b = compressed.param(module + ".bias"), db = plain.param(module + ".bias", DS_GRAD);
                for (size_t i = 0; i < b.size(); ++i) exact[i] += b[i] * db[i];
            }
            close(compressed.param(scores, DS_GRAD), exact, 1e-4, "gradient of " + scores);
        };
    };
    {
        const std::string scores = kUp0 + ".sparse_mask_scores";
        Numbers mask;
        computes_as_by_hand(
            "single weights by learned scores" + name, "bert-sentiment",
            technique("sparse_pruning", {{"method", "topk"}}, {{"dense_ratio", 0.4}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                mask = largest(e.param(scores), 0.4);
                return Effective{times(e.param(kUp0 + ".weight"), mask), {}, [&](const Numbers& g) { return times(g, mask); }};
            },
            scores_learn(scores, kUp0, [](size_t i) { return i; }), layout);
    }
    {
        const std::string scores = kUp0 + ".row_mask_scores";
        Numbers rows, mask;
        computes_as_by_hand(
            "rows by learned scores" + name, "bert-sentiment",
            technique("row_pruning", {{"method", "topk"}}, {{"dense_ratio", 0.5}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                rows = largest(e.param(scores), 0.5), mask = by_row(rows, ins);
                return Effective{times(e.param(kUp0 + ".weight"), mask), times(e.param(kUp0 + ".bias"), rows),
                                 [&](const Numbers& g) { return times(g, mask); }};
            },
            scores_learn(scores, kUp0, [ins](size_t i) { return i / ins; }), layout);
    }
    {
        const std::string scores = kOut0 + ".head_pruning_scores";
        const size_t rows = static_cast<size_t>(fresh.shape(kOut0 + ".weight")[0]),
                     columns = static_cast<size_t>(fresh.shape(kOut0 + ".weight")[1]);
        Numbers mask;
        computes_as_by_hand(
            "heads" + name, "bert-sentiment",
            technique("head_pruning", {{"num_heads", 4}}, {{"dense_ratio", 0.5}}, {"layer.0.attention.output.dense"}), kOut0,
            [&](const Engine& e) {
                mask = by_head(largest(e.param(scores), 0.5), rows, columns);
                return Effective{times(e.param(kOut0 + ".weight"), mask), {}, [&](const Numbers& g) { return times(g, mask); }};
            },
            scores_learn(scores, kOut0, [columns](size_t i) { return i % columns / (columns / 4); }), layout);
    }
}

void quantisation(const Json& layout) {
    const auto weights = [&](const char* what, Json shared, int bits, int groups, bool asymmetric) {
        shared["quantize_weight_in_forward"] = true;
        computes_as_by_hand(
            std::string(what) + " under " + layout.dump(), "bert-sentiment",
            technique("weight_quantization", shared, {{"start_bits", bits}, {"target_bits", bits}}, {"layer.0.intermediate.dense"}), kUp0,
            [&](const Engine& e) {
                return Effective{rounded(e.param(kUp0 + ".weight"), bits, groups, asymmetric), {}, {}};
            },
            {}, layout);
    };
    weights("eight bits", {{"quantization_type", "symmetric"}}, 8, 1, false);
    weights("four bits in groups", {{"quantize_groups", 16}}, 4, 16, false);
    weights("five bits from least to most", {{"quantization_type", "asymmetric"}, {"quantize_groups", 4}}, 5, 4, true);
    computes_as_by_hand(
        "three values under " + layout.dump(), "bert-sentiment",
        technique("weight_quantization", {{"quantize_weight_in_forward", true}}, {{"start_bits", 2}, {"target_bits", 2}},
                  {"layer.0.intermediate.dense"}),
        kUp0,
        [&](const Engine& e) {
            Numbers x = e.param(kUp0 + ".weight");
            double mean = 0, large = 0, count = 0;
            for (const double v : x) mean += std::fabs(v) / static_cast<double>(x.size());
            for (const double v : x)
                if (std::fabs(v) > 0.7 * mean) large += std::fabs(v), ++count;
            for (double& v : x) v = v > 0.7 * mean ? large / count : v < -0.7 * mean ? -large / count : 0;
            return Effective{x, {}, {}};
        },
        {}, layout);
}

// Each row by its own range, as it is looked up.
void embeddings(const Json& layout) {
    const auto technique_of = [](int bits, const char* module, bool asymmetric) {
        return technique("weight_quantization",
                         {{"quantize_weight_in_forward", true}, {"quantization_type", asymmetric ? "asymmetric" : "symmetric"}},
                         {{"start_bits", bits}, {"target_bits", bits}}, {module, "layer.1.intermediate"});
    };
    const std::string words = "bert.embeddings.word_embeddings", up = "bert.encoder.layer.1.intermediate.dense";
    for (const auto& [bits, asymmetric] : {std::pair{4, false}, {8, true}, {3, false}})
        computes_as_by_hand(
            "words in " + std::to_string(bits) + " bits under " + layout.dump(), "bert-sentiment",
            technique_of(bits, "word_emb", asymmetric), up,
            [&](const Engine& e) {
                return Effective{rounded(e.param(up + ".weight"), bits, 1, asymmetric), {}, {}};
            },
            {}, layout,
            [&](const Engine& e) {
                return std::pair{words + ".weight",
                                 rounded(e.param(words + ".weight"), bits, static_cast<int>(e.shape(words + ".weight")[0]), asymmetric)};
            });
}

// In forward a tied head multiplies by rows that are whole; else it has the table's rounded ones, too.
void tied_heads() {
    const std::string table = "transformer.wte.weight";
    for (const bool in_forward : {true, false}) {
        const Json rounding = technique("weight_quantization", {{"quantize_weight_in_forward", in_forward}, {"quantize_groups", 2}},
                                        {{"start_bits", 3}, {"target_bits", 3}}, {"wte"});
        const Engine tied(config_of("gpt2", rounding)),
            apart(config_of("gpt2", Json(), {{"model_overrides", {{"tie_word_embeddings", false}}}, {"model_init", "random"}}));
        tied.step(0);  // out of forward weights are rounded at the end of each update
        for (const std::string& p : tied.names()) apart.set(p, tied.param(p));
        const Numbers whole = tied.param(table), few = rounded(whole, 3, in_forward ? static_cast<int>(tied.shape(table)[0]) : 2, false);
        apart.set(table, few);
        apart.set("lm_head.weight", in_forward ? whole : few);
        close({tied.gradients(1)}, {apart.gradients(1)}, 3e-6, in_forward ? "a tied head in forward" : "a tied head out of forward");
        Numbers exact = apart.param(table, DS_GRAD);
        const Numbers of_head = apart.param("lm_head.weight", DS_GRAD);
        for (size_t i = 0; i < exact.size(); ++i) exact[i] += of_head[i];
        close(tied.param(table, DS_GRAD), exact, 5e-5, "the gradient of a tied table");
    }
}

// From eight bits to five: one less at the first, second and fourth rounding, as the period of one doubles.
void bits_fall_by_periods() {
    const Engine e(config_of("bert-sentiment", technique("weight_quantization", Json::object(),
                                                         {{"start_bits", 8}, {"target_bits", 5}, {"quantization_period", 1}}, {kUp0}))),
        plain(config_of("bert-sentiment"));
    const std::vector<int> bits = {0, 7, 6, 6, 5, 5, 5};
    for (size_t step = 0; step < bits.size(); ++step) {
        for (const std::string& p : plain.names()) plain.set(p, e.param(p));
        if (bits[step]) plain.set(kUp0 + ".weight", rounded(e.param(kUp0 + ".weight"), bits[step], 1, false));
        close({e.step(static_cast<int>(step))}, {plain.gradients(static_cast<int>(step))}, 3e-6,
              "bits after " + std::to_string(step) + " updates");
        must(ds_zero_grad(plain.e), "zero_grad");
    }
}

// What goes into the classifier is the pooler's output, of which each row has its own scale.
void activations_are_rounded() {
    for (const bool asymmetric : {false, true}) {
        const Engine e(config_of("bert-sentiment",
                                 technique("activation_quantization", {{"quantization_type", asymmetric ? "asymmetric" : "symmetric"}},
                                           {{"bits", 4}}, {"^classifier$"}))),
            plain(config_of("bert-sentiment"));
        e.eval();
        plain.eval();
        const Numbers logits = e.output("logits"), w = plain.param("classifier.weight"), b = plain.param("classifier.bias");
        const Numbers x = rounded(plain.output("pooler_output"), 4, 4, asymmetric);
        Numbers exact;
        const size_t width = w.size() / b.size();
        for (size_t r = 0; r < 4; ++r)
            for (size_t k = 0; k < b.size(); ++k) {
                double sum = b[k];
                for (size_t c = 0; c < width; ++c) sum += w[k * width + c] * x[r * width + c];
                exact.push_back(sum);
            }
        close(logits, exact, 3e-6, asymmetric ? "activations from least to most" : "activations around zero");
        check(distance(logits, plain.output("logits")) > 1e-4, "rounding shows");
    }
}

// One range for all tokens: the first batch's own, then a moving average, in training passes only. It survives checkpoints.
void ranges_move() {
    const std::string range = "classifier.activation_quantizer.x_min_max";
    for (const bool asymmetric : {false, true}) {
        const Json fixed = technique("activation_quantization",
                                     {{"range_calibration", "static"}, {"quantization_type", asymmetric ? "asymmetric" : "symmetric"}},
                                     {{"bits", 8}}, {"^classifier$"});
        const Engine e(config_of("bert-sentiment", fixed)), plain(config_of("bert-sentiment"));
        check(e.param(range) == Numbers({0, 0}), "no range before training");
        close({e.eval(1)}, {plain.eval(1)}, 1e-6, "without a range nothing is rounded");
        Numbers exact;
        for (int step = 0; step < 3; ++step) {
            plain.eval(step);
            const Numbers x = plain.output("pooler_output");
            const Numbers now = {*std::min_element(x.begin(), x.end()), *std::max_element(x.begin(), x.end())};
            if (exact.empty()) exact = now;
            else
                for (size_t i = 0; i < 2; ++i) exact[i] = 0.95 * exact[i] + 0.05 * now[i];
            e.gradients(step);
            must(ds_zero_grad(e.e), "zero_grad");
            close(e.param(range), exact, 1e-6, "the range after " + std::to_string(step + 1) + " passes");
            e.eval(step + 7);
            close(e.param(range), exact, 1e-6, "evaluation leaves the range");
        }
        e.eval();
        plain.eval();
        const Numbers logits = e.output("logits"), w = plain.param("classifier.weight"), b = plain.param("classifier.bias"),
                      x = plain.output("pooler_output");
        const double scale = asymmetric ? (exact[1] - exact[0]) / 256 : 2 * std::max(std::fabs(exact[0]), exact[1]) / 256,
                     zero = asymmetric ? std::rint(exact[0] / scale) * scale : 0;
        Numbers by_hand;
        for (size_t r = 0; r < 4; ++r)
            for (size_t k = 0; k < b.size(); ++k) {
                double sum = b[k];
                for (size_t c = 0, width = w.size() / b.size(); c < width; ++c)
                    sum += w[k * width + c] * (std::clamp(std::rint((x[r * width + c] - zero) / scale), asymmetric ? 0.0 : -128.0,
                                                          asymmetric ? 255.0 : 127.0) *
                                                   scale +
                                               zero);
                by_hand.push_back(sum);
            }
        close(logits, by_hand, 2e-4, "values rounded within the range");
        check(distance(logits, plain.output("logits")) > 1e-4, "rounding shows");
        Folder folder;
        must(ds_save(e.e, folder.path.c_str(), "t", nullptr), "save");
        const Engine other(config_of("bert-sentiment", fixed));
        must(ds_load(other.e, folder.path.c_str(), "t", nullptr), "load");
        check(other.param(range) == e.param(range) && other.eval(4) == e.eval(4), "a checkpoint has the range");
    }
}

// What fills a stream of tokens up to a round number is nobody's token; recomputation does not move ranges twice.
void only_tokens_count() {
    const Json fixed =
        technique("activation_quantization", {{"range_calibration", "static"}}, {{"bits", 8}}, {"self.query", "output.dense"});
    const Engine e(config_of("bert-sentiment", fixed)),
        again(config_of("bert-sentiment", fixed, {{"activation_checkpointing", {{"partition_activations", false}}}, {"recompute", 2}}));
    const std::string words = "bert.embeddings.word_embeddings.weight",
                      range = "bert.encoder.layer.0.attention.self.query.activation_quantizer.x_min_max";
    Numbers table = e.param(words);
    const size_t width = table.size() / static_cast<size_t>(e.shape(words)[0]);
    for (size_t i = 0; i < width; ++i) table[i] = i == 3 ? 1000 : 0;  // normalised, the largest that a value can be
    for (const Engine* each : {&e, &again}) each->set(words, table);
    Batch batch(true);
    std::vector<int32_t> mask(36, 1), ids;
    for (int i = 0; i < 36; ++i) mask[static_cast<size_t>(i)] = i % 9 < 5 + i / 9 % 2, ids.push_back(1 + (i * i * 5 + i * 11) % 80);
    const int64_t shape[2] = {4, 9};
    batch.put("attention_mask", 2, shape, mask);
    batch.put("input_ids", 2, shape, ids);
    for (const Engine* each : {&e, &again}) {
        each->forward(batch.b);
        must(ds_backward(each->e), "backward");
    }
    check(e.param(range)[1] > 0.5 && e.param(range)[1] < std::sqrt(static_cast<double>(width)) * 0.9,
          "filling is seen by nobody: " + std::to_string(e.param(range)[1]));
    for (const std::string& p : e.names(true)) {
        const Numbers exact = e.param(p, DS_GRAD);
        double most = 0;
        for (const double x : exact) most = std::max(most, std::fabs(x));
        if (most > 1e-7) close(again.param(p, DS_GRAD), exact, 1e-6, "recomputed: gradient of " + p);
    }
}

// GPT-2's weights lie [in, out]: groups and neighbours are inputs of one output there, too, as DeepSpeed has them once it made linear
// modules of GPT-2's.
void groups_go_along_inputs() {
    const std::string up = "transformer.h.0.mlp.c_fc";
    computes_as_by_hand("GPT-2's groups", "gpt2",
                        technique("weight_quantization", {{"quantize_weight_in_forward", true}, {"quantize_groups", 256}},
                                  {{"start_bits", 4}, {"target_bits", 4}}, {"h.0.mlp.c_fc"}),
                        up, [&](const Engine& e) {
                            const auto shape = e.shape(up + ".weight");
                            const Numbers w = rounded(turned(e.param(up + ".weight"), static_cast<size_t>(shape[0])), 4, 256, false);
                            return Effective{turned(w, static_cast<size_t>(shape[1])), {}, {}};
                        });
    computes_as_by_hand("GPT-2's neighbours", "gpt2",
                        technique("sparse_pruning", {{"block_pattern", "2:4"}}, {{"dense_ratio", 0.5}}, {"h.0.mlp.c_fc"}), up,
                        [&](const Engine& e) {
                            const auto rows = static_cast<size_t>(e.shape(up + ".weight")[0]);
                            const Numbers mask = e.param(up + ".sparse_pruning_mask"), by_output = turned(mask, rows);
                            for (size_t i = 0; i < by_output.size(); i += 4)
                                check(by_output[i] + by_output[i + 1] + by_output[i + 2] + by_output[i + 3] == 2,
                                      "two of four inputs of an output are left");
                            return Effective{times(e.param(up + ".weight"), mask), {}, [mask](const Numbers& g) { return times(g, mask); }};
                        });
}

void techniques_wait_for_their_step() {
    Json both = technique("sparse_pruning", {{"schedule_offset", 2}}, {{"dense_ratio", 0.2}}, {"intermediate.dense"});
    both.update(technique("weight_quantization", {{"schedule_offset", 3}, {"quantize_weight_in_forward", true}},
                          {{"start_bits", 3}, {"target_bits", 3}}, {"attention.output.dense"}));
    const Engine e(config_of("bert-sentiment", both)), plain(config_of("bert-sentiment"));
    for (int step = 0; step < 5; ++step) {
        const double a = e.step(step), b = plain.step(step);
        check((a == b) == (step < 2), "the loss changes at step 2, not at " + std::to_string(step));
    }
}

// Activations on the edge between two levels may fall to either side where tensor ranks sum in another order.
void layouts_agree(const Json& layout) {
    Json weights = several();
    weights.erase("activation_quantization");
    for (const auto& [compression, bound] : {std::pair{weights, 2e-5}, {several(), 3e-3}}) {
        const Engine one(config_of("bert-sentiment", compression)), other(config_of("bert-sentiment", compression, layout));
        for (int step = 0; step < 5; ++step)
            close({other.step(step)}, {one.step(step)}, bound,
                  "step " + std::to_string(step) + " under " + layout.dump() + (bound < 1e-3 ? "" : ", activations too"));
    }
}

void resume_is_bit_equal() {
    Folder folder;
    const Json config = config_of("bert-sentiment", several(), {{"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 0.01}}}}}});
    const Engine whole(config), first(config), second(config);
    for (int step = 0; step < 6; ++step) whole.step(step);
    for (int step = 0; step < 3; ++step) first.step(step);
    must(ds_save(first.e, folder.path.c_str(), "half", nullptr), "save");
    must(ds_load(second.e, folder.path.c_str(), "half", nullptr), "load");
    for (int step = 3; step < 6; ++step) second.step(step);
    for (const std::string& p : whole.names()) check(whole.param(p) == second.param(p), "resume is bit-equal: " + p);
    // A checkpoint from before there were masks: they are made from its weights.
    const Engine plain(config_of("bert-sentiment"));
    for (int step = 0; step < 2; ++step) plain.step(step);
    must(ds_save(plain.e, folder.path.c_str(), "plain", "{\"weights_only\": true}"), "save");
    const Engine later(config_of("bert-sentiment", technique("sparse_pruning", Json::object(), {{"dense_ratio", 0.3}}, {kUp0})));
    must(ds_load(later.e, folder.path.c_str(), "plain", nullptr), "load");
    check(later.param(kUp0 + ".sparse_pruning_mask") == largest(sizes(plain.param(kUp0 + ".weight")), 0.3),
          "masks are of the weights that were loaded");
}

// The student's layer is the teacher's second, listed modules are the teacher's, others are fresh.
void students_begin_from_a_teachers_layers() {
    const Json reduction = {{"layer_reduction",
                             {{"enabled", true},
                              {"keep_number_layer", 1},
                              {"module_name_prefix", "bert.encoder.layer"},
                              {"teacher_layer", {1}},
                              {"other_module_name", {"bert.embeddings", "classifier"}}}}};
    const Engine student(config_of("bert-sentiment", reduction)), teacher(config_of("bert-sentiment"));
    for (const std::string& p : student.names()) {
        std::string theirs = p;
        if (const auto at = theirs.find("layer.0."); at != theirs.npos) theirs.replace(at, 8, "layer.1.");
        check(p.find("layer.1.") == p.npos, "one layer is left: " + p);
        if (p.find("pooler.dense.bias") != p.npos) continue;  // zeros, there as here
        check((student.param(p) == teacher.param(theirs)) == (p.find("pooler.dense.weight") == p.npos), "the teacher's, or afresh: " + p);
    }
    Folder folder;
    student.step(0);
    must(ds_export(student.e, folder.path.c_str(), nullptr), "export");
    const Engine plain(Json{{"model", folder.path.string()}, {"threads", 1}, {"SENTENCES", true}});
    close({plain.eval(2)}, {student.eval(2)}, 1e-6, "a student's folder");
    Json wrong = reduction;
    wrong["layer_reduction"]["teacher_layer"] = {2};
    refused(config_of("bert-sentiment", wrong),
            "config: compression_training.layer_reduction.teacher_layer: must be a list of layers from 0 to 1, is [2]");
    wrong["layer_reduction"]["teacher_layer"] = {0, 1};
    refused(config_of("bert-sentiment", wrong), "keep_number_layer: is 1, but teacher_layer has 2 entries");
}

void mistakes_are_named() {
    const auto with = [](Json compression, Json more = Json::object()) { return config_of("bert-sentiment", compression, more); };
    refused(
        with(technique("sparse_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"no.such"})),
        "DS_E_CONFIG: config: compression_training.sparse_pruning.different_groups.g1.modules: no linear module's name has \"no.such\"");
    refused(with(technique("sparse_pruning", Json::object(), {{"dense_ratio", 1.5}}, {"dense"})),
            "params.dense_ratio: must be a number above 0 and at most 1, is 1.5");
    refused(with(technique("sparse_pruning", {{"method", "snip_momentum"}}, {{"dense_ratio", 0.5}}, {"dense"})),
            "DS_E_UNSUPPORTED: config: compression_training.sparse_pruning.shared_parameters.method: snip_momentum");
    refused(with(technique("sparse_pruning", {{"block_pattern", "3:5"}}, {{"dense_ratio", 0.5}}, {"intermediate.dense"})),
            "not a multiple of 5");
    refused(with(technique("weight_quantization", Json::object(), {{"start_bits", 8}}, {"dense"})),
            "params.target_bits: must be an integer from 1 to 16, is absent");
    refused(
        with(technique("weight_quantization", {{"quantization_type", "asymmetric"}}, {{"start_bits", 8}, {"target_bits", 2}}, {"dense"})),
        "2 bits are symmetric only");
    refused(with(technique("weight_quantization", Json::object(), {{"start_bits", 8}, {"target_bits", 4}}, {"(dense"})),
            "(dense is no regular expression: missing closing parenthesis");
    refused(with(technique("activation_quantization", {{"range_calibration", "static"}}, {{"bits", 8}}, {"dense"}),
                 {{"parallel", {{"data", 2}}}, {"train_micro_batch_size_per_gpu", 2}}),
            "DS_E_UNSUPPORTED: config: compression_training.activation_quantization.shared_parameters.range_calibration: static is not "
            "built for parallel");
    const Json missing = {{"rounding", "stochastic"}, {"fp16_mixed_quantize", {{"enabled", true}}}};
    for (const auto& [key, value] : missing.items())
        refused(with(technique("weight_quantization", {{key, value}}, {{"start_bits", 8}, {"target_bits", 4}}, {"dense"})),
                "DS_E_UNSUPPORTED: config: compression_training.weight_quantization.shared_parameters." + key);
    refused(with(technique("activation_quantization", Json::object(), {{"bits", 6}}, {"dense"})), "params.bits: must be 4 or 8, is 6");
    refused(with(technique("head_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"attention.output.dense"})),
            "shared_parameters.num_heads: must be an integer from 1");
    refused(with(technique("head_pruning", {{"num_heads", 5}}, {{"dense_ratio", 0.5}}, {"attention.output.dense"})),
            "5 does not divide the 32 inputs of");
    refused(with(technique("row_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"intermediate.dense"},
                           Json::array({Json::array({"pooler"})}))),
            "one for each is needed");
    refused(with(technique("channel_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"dense"})),
            "DS_E_UNSUPPORTED: config: compression_training.channel_pruning");
    refused(with(technique("weight_quantization", Json::object(), {{"start_bits", 8}, {"target_bits", 8}}, {"words"})),
            "no linear module's or embedding's name has \"words\"");
    refused(with(technique("sparse_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"word_embeddings"})),
            "no linear module's name has \"word_embeddings\"");
    refused(with(technique("sparse_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"dense"}),
                 {{"parallel", {{"data", 2}}}, {"train_micro_batch_size_per_gpu", 2}, {"zero_optimization", {{"stage", 3}}}}),
            "DS_E_UNSUPPORTED: config: compression_training: not built for zero_optimization.stage 3");
}

}  // namespace

int main() {
    const Json data2 = {{"parallel", {{"data", 2}}}, {"train_micro_batch_size_per_gpu", 2}}, tensor2 = {{"parallel", {{"tensor", 2}}}};
    pruning(Json::object());
    pruning(tensor2);
    quantisation(Json::object());
    quantisation(tensor2);
    embeddings(Json::object());
    embeddings(tensor2);
    embeddings({{"parallel", {{"data", 2}}}, {"train_micro_batch_size_per_gpu", 2}, {"sparse_gradients", true}});
    tied_heads();
    bits_fall_by_periods();
    activations_are_rounded();
    ranges_move();
    only_tokens_count();
    groups_go_along_inputs();
    techniques_wait_for_their_step();
    layouts_agree(data2);
    layouts_agree(
        {{"parallel", {{"data", 2}, {"tensor", 2}}}, {"train_micro_batch_size_per_gpu", 2}, {"zero_optimization", {{"stage", 2}}}});
    layouts_agree({{"parallel", {{"pipeline", 2}}}});
    layouts_agree({{"parallel", {{"sequence", 2}}}});
    resume_is_bit_equal();
    students_begin_from_a_teachers_layers();
    mistakes_are_named();
    return checks::result();
}
