// What engines that compressed export, with pruned rows and heads taken out or weights in few bits, computes what they did. So does what is
// rounded to few bits without training.
#include <filesystem>

#include "base/file.h"
#include "support/compressing.h"

using namespace compressing;

namespace {

void exports_what_it_computes() {
    Folder folder;
    const auto exported = [&](const Engine& e, const char* name) {
        must(ds_export(e.e, (folder.path / name).c_str(), nullptr), name);
        return Json{{"model", (folder.path / name).string()}, {"threads", 1}, {"SENTENCES", true}};
    };
    const auto config_json = [&](const char* name) { return Json::parse(*ds::read_file(folder.path / name / "config.json")); };
    {
        const Engine e(config_of("bert-sentiment", several()));
        for (int step = 0; step < 3; ++step) e.step(step);
        const int64_t before = e.shape(kUp0 + ".weight")[0];
        Json smaller = exported(e, "rows");
        const Engine plain(smaller);
        check(plain.shape(kUp0 + ".weight")[0] == before / 2 && config_json("rows")["intermediate_size"] == before / 2,
              "half of the feed-forward's rows are gone");
        for (const std::string& p : plain.names()) check(p.find("mask") == p.npos && p.find("scores") == p.npos, "a folder has no " + p);
        // What is computed apart from the value's rounding, which is no weight's.
        Json quiet = several();
        quiet.erase("activation_quantization");
        const Engine same(config_of("bert-sentiment", quiet));
        for (int step = 0; step < 3; ++step) same.step(step);
        const Engine small(exported(same, "quiet"));
        close({small.eval(7)}, {same.eval(7)}, 5e-6, "a folder without pruned rows computes the same");
    }
    {
        const Json heads = technique("head_pruning", {{"num_heads", 4}}, {{"dense_ratio", 0.5}}, {"o_proj"},
                                     Json::array({Json::array({"q_proj", "k_proj", "v_proj"})}));
        const Json alike = {{"model_overrides", {{"num_key_value_heads", 4}}}, {"model_init", "random"}};
        const Engine e(config_of("llama", heads, alike));
        e.step(0);
        Json smaller = exported(e, "heads");
        smaller.erase("SENTENCES");
        const Engine plain(smaller);
        check(config_json("heads")["num_attention_heads"] == 2 && plain.shape("model.layers.0.self_attn.q_proj.weight")[0] == 16,
              "half of the heads are gone");
        close({plain.eval(3)}, {e.eval(3)}, 5e-6, "a folder without pruned heads computes the same");
        const Engine grouped(config_of("llama", heads));  // two query heads share one of keys: that can't be told by config.json
        grouped.step(0);
        Json zeros = exported(grouped, "zeros");
        zeros.erase("SENTENCES");
        const Engine same(zeros);
        check(config_json("zeros")["num_attention_heads"] == 4, "heads that share keys stay as zeros");
        close({same.eval(3)}, {grouped.eval(3)}, 5e-6, "a folder with zeros computes the same");
    }
    {
        const Engine e(config_of("gpt2", technique("row_pruning", Json::object(), {{"dense_ratio", 0.25}}, {"mlp.c_fc"},
                                                   Json::array({Json::array({"mlp.c_proj"})}))));
        e.step(0);
        Json smaller = exported(e, "conv1d");
        smaller.erase("SENTENCES");
        const Engine plain(smaller);
        check(plain.shape("transformer.h.0.mlp.c_fc.weight")[1] == 32 && config_json("conv1d")["n_inner"] == 32,
              "a quarter of GPT-2's feed-forward is left");
        close({plain.eval(3)}, {e.eval(3)}, 5e-6, "GPT-2 without pruned rows computes the same");
    }
}

uintmax_t size_of_weights(const std::filesystem::path& folder) { return std::filesystem::file_size(folder / "model.safetensors"); }

// Folders whose weights stay in few bits compute what the engine did that wrote them, are smaller, and are written again as they were read.
void exports_in_few_bits() {
    // Attention's matrices are 32 x 32, the others 88 x 32 and 32 x 88: groups of those are whole outputs.
    const auto weights = [&](int bits, bool asymmetric, int groups) {
        const Json linear = groups > 8 ? Json{"attention.self", "attention.output.dense"}
                                       : Json{"attention.self", "attention.output.dense", "intermediate.dense", "layer.[0-9].output.dense"};
        return technique("weight_quantization",
                         {{"quantize_weight_in_forward", true},
                          {"quantize_groups", groups},
                          {"quantization_type", asymmetric ? "asymmetric" : "symmetric"}},
                         {{"start_bits", bits}, {"target_bits", bits}}, linear);
    };
    const auto with_inputs = [](Json compression, Json shared) {
        compression.update(technique("activation_quantization", shared, {{"bits", 8}},
                                     compression["weight_quantization"]["different_groups"]["g1"]["modules"]));
        return compression;
    };
    Json sparse = weights(4, false, 64);
    sparse.update(technique("sparse_pruning", {{"block_pattern", "2:4"}}, {{"dense_ratio", 0.5}}, {"attention.self.query"}));
    Json tables = weights(4, false, 64);
    tables["weight_quantization"]["different_groups"]["g1"]["modules"].push_back("embeddings");
    struct Case {
        std::string name;
        Json compression;
        double bound;
    };
    for (const auto& [name, compression, bound] :
         {Case{"four", weights(4, false, 64), 5e-6},
          {"asymmetric", weights(4, true, 64), 5e-6},
          {"three", weights(3, false, 1), 5e-6},
          {"outputs", weights(4, true, 8), 5e-6},
          {"eight", weights(8, true, 32), 5e-6},
          {"sparse", sparse, 5e-6},
          {"tables", tables, 5e-6},
          {"static", with_inputs(weights(8, false, 1), {{"range_calibration", "static"}}), 1e-3},
          {"moved", with_inputs(weights(8, false, 32), {{"range_calibration", "static"}, {"quantization_type", "asymmetric"}}), 1e-3},
          {"tokens", with_inputs(weights(8, false, 1), Json::object()), 1e-2}}) {
        Folder folder;
        const Engine e(config_of("bert-sentiment", compression));
        for (int step = 0; step < 3; ++step) e.step(step);
        must(ds_export(e.e, (folder.path / "whole").c_str(), nullptr), name);
        must(ds_export(e.e, (folder.path / "few").c_str(), "{\"quantized\": true}"), name);
        const Json plain = {{"threads", 1}, {"SENTENCES", true}};
        const auto from = [&](const char* which) {
            Json config = plain;
            config["model"] = (folder.path / which).string();
            return config;
        };
        const Engine few(from("few"));
        few.eval(7), e.eval(7);
        close(few.output("logits"), e.output("logits"), bound, name + ": a folder in few bits computes the same");
        const bool all = name == "three" || name == "outputs" || name == "static" || name == "tokens";
        check(size_of_weights(folder.path / "few") < size_of_weights(folder.path / "whole") * (all ? 0.7 : 0.95), name + ": it is smaller");
        must(ds_export(few.e, (folder.path / "again").c_str(), "{\"quantized\": true}"), name);
        check(*ds::read_file(folder.path / "few" / "model.safetensors") == *ds::read_file(folder.path / "again" / "model.safetensors"),
              name + ": it is written as it was read");
        must(ds_export(few.e, (folder.path / "decoded").c_str(), nullptr), name);
        const Engine decoded(from("decoded"));
        if (bound < 1e-4) close({decoded.eval(2)}, {few.eval(2)}, 5e-6, name + ": a folder of its values computes the same");
        Json twice = from("few");
        twice["quantization"] = {{"load_in_4bit", true}};
        refused(
            [&] {
                twice.erase("SENTENCES");
                return twice;
            }(),
            "DS_E_CONFIG: config: quantization: the model's folder says how its weights are kept");
    }
    const auto cannot = [&](const Json& config, const std::string& part) {
        Folder folder;
        const Engine e(config);
        for (int step = 0; step < 2; ++step) e.step(step);
        const ds_status status = ds_export(e.e, folder.path.c_str(), "{\"quantized\": true}");
        const std::string said = std::string(ds_status_name(status)) + ": " + ds_last_error();
        check(status < 0 && said.find(part) != std::string::npos, "expected \"" + part + "\", found \"" + said + "\"");
    };
    cannot(config_of("bert-sentiment"), "DS_E_STATE: ds_export: option quantized: no weight of this engine is in few bits");
    cannot(config_of("bert-sentiment", weights(2, false, 1)),
           "DS_E_UNSUPPORTED: ds_export: option quantized: compression_training.weight_quantization: ");
    Json rows = weights(8, false, 1);
    rows.update(technique("row_pruning", Json::object(), {{"dense_ratio", 0.5}}, {"intermediate.dense"}));
    cannot(config_of("bert-sentiment", rows), "DS_E_UNSUPPORTED: ds_export: option quantized: compression_training.row_pruning: ");
    cannot(config_of("bert-sentiment", with_inputs(weights(8, true, 1), Json::object())),
           "weight_quantization.shared_parameters.quantization_type");
    cannot(config_of("bert-sentiment", with_inputs(weights(8, false, 64), Json::object())),
           "weight_quantization.shared_parameters.quantize_groups");
}

// int4 in groups without training: GPT-2's weights, which lie the other way, and BERT's.
void rounds_after_training() {
    for (const char* model : {"bert-sentiment", "gpt2"})
        for (const bool symmetric : {true, false}) {
            Folder folder;
            const Json quantization = {{"load_in_4bit", true}, {"bnb_4bit_quant_type", "int4"}, {"group_size", 8}, {"sym", symmetric}};
            Json config = config_of(model, Json(), {{"quantization", quantization}});
            config.erase("optimizer");
            const Engine e(config);
            Json whole = config;
            whole.erase("quantization");
            const Engine plain(whole);
            for (const std::string& p : plain.names()) {
                if (!p.ends_with(".weight") || plain.shape(p).size() != 2 || p.find("embeddings") != p.npos || p.find("wte") != p.npos ||
                    p.find("wpe") != p.npos || p.find("classifier") != p.npos)
                    continue;
                const auto shape = plain.shape(p);
                Numbers w = plain.param(p);
                const bool turns = std::string(model) == "gpt2";
                if (turns) w = turned(w, static_cast<size_t>(shape[0]));
                w = rounded(w, 4, static_cast<int>(w.size() / 8), !symmetric);
                if (turns) w = turned(w, static_cast<size_t>(shape[1]));
                close(e.param(p), w, 1e-6, std::string(model) + ": " + p);
                plain.set(p, w);
            }
            close({e.eval(3)}, {plain.eval(3)}, 5e-6, std::string(model) + ": what its values compute");
            must(ds_export(e.e, folder.path.c_str(), "{\"quantized\": true}"), model);
            Json again = config;
            again.erase("quantization");
            again["model"] = folder.path.string();
            if (std::string(model) == "bert-sentiment") again["SENTENCES"] = true;
            const Engine read(again);
            if (symmetric) check(read.eval(3) == e.eval(3), std::string(model) + ": its folder computes the same");
            else
                close({read.eval(3)}, {e.eval(3)}, 5e-6,
                      std::string(model) + ": its folder computes the same, where groups of one sign are written whole");
        }
    Json wrong = config_of("bert-sentiment", Json(),
                           {{"quantization", {{"load_in_4bit", true}, {"bnb_4bit_quant_type", "int4"}, {"group_size", 24}}}});
    wrong.erase("optimizer");
    refused(wrong, "DS_E_CONFIG: config: quantization.group_size: 24 does not divide the 32 inputs of");
    wrong["quantization"] = {{"load_in_4bit", true}, {"group_size", 16}};
    refused(wrong, "DS_E_CONFIG: config: quantization.group_size: belongs to load_in_4bit with bnb_4bit_quant_type int4");
}

}  // namespace

int main() {
    exports_what_it_computes();
    exports_in_few_bits();
    rounds_after_training();
    return checks::result();
}
