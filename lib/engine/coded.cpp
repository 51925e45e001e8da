// quantization: which frozen weights are kept in few bits (QLoRA: Dettmers et al. 2023, arXiv 2305.14314), and what checkpoints say about
// them.
#include "ckpt/durable_file.h"
#include "engine/engine.h"
#include "passes/adapters.h"
#include "passes/coded_weights.h"

namespace ds {

Status Engine::choose_coded(Graph& graph) {
    const QuantizationConfig& wanted = config_.quantization;
    if (weights_come_from_a_folder()) DS_CHECK(choose_coded_in_folder(graph));
    if (!wanted.enabled) return ok();
    const auto lack = [](const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: quantization: not built {}", what); };
    if (!model_) return lack("for a host's own graph");
    if (!config_.compression.is_null()) return lack("together with compression_training");
    if (config_.mesh.tensor > 1) return lack("for parallel.tensor, which cuts weights; data, sequence and pipeline ranks have them whole");
    if (wanted.code.by_output && (!config_.optimizer.type.empty() || options_.optimizer || adapters_))
        return lack("for training with int8_products, which round what goes into them: leave out optimizer and lora, or int8_products");
    if (wanted.code.is_bf16()) return choose_bf16(graph);
    DS_TRY(const auto modules, linear_modules_but(graph, wanted.skip, "quantization.llm_int8_skip_modules"));
    for (const auto& [module, out_first] : modules) {
        Value& weight = graph.value(graph.find(module + ".weight"));
        if (adapters_ && weight.trainable) continue;  // modules_to_save
        if (const int64_t ins = weight.type.shape[out_first ? 1 : 0]; wanted.code.group && ins % wanted.code.group)
            return fail(Code::E_CONFIG, "config: quantization.group_size: {} does not divide the {} inputs of {}", wanted.code.group, ins,
                        module);
        weight.trainable = false;
        coded_[weight.name] = wanted.code;
        coded_[weight.name].out_first = out_first;
    }
    for (const ValueId id : graph.inputs)  // nothing is trained through integers
        if (wanted.code.by_output) graph.value(id).trainable = false;
    if (coded_.empty()) return lack("for this model: it has no linear modules besides its head");
    return ok();
}

// All that products and lookups read and nothing trains: what they would read a copy of.
Status Engine::choose_bf16(Graph& graph) {
    const auto lack = [](const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: quantization.load_in_16bit: {}", what); };
    if (!adapters_ && (!config_.optimizer.type.empty() || options_.optimizer))
        return lack("not built for training weights, which updates need whole: leave out optimizer, or add lora");
    for (const std::string& name : weights_in_low_products(graph)) {
        Value& weight = graph.value(graph.find(name));
        if (adapters_ && weight.trainable) continue;  // what LoRA adds, and modules_to_save
        weight.trainable = false;
        coded_[name] = config_.quantization.code;
    }
    return coded_.empty() ? lack("this model has no weight that only products and lookups read") : ok();
}

// The model's folder may have weights in few bits itself.
Status Engine::choose_coded_in_folder(Graph& graph) {
    DS_CHECK(check_coded_folder(model_config_, model_folder_));
    if (!is_coded_folder(model_config_)) return ok();
    const auto lack = [](const std::string& what) {
        return fail(Code::E_UNSUPPORTED, "model: its weights are in few bits (quantization_config of config.json), which is not built {}",
                    what);
    };
    if (config_.quantization.enabled)
        return fail(
            Code::E_CONFIG,
            "config: quantization: the model's folder says how its weights are kept (quantization_config of config.json); leave it out");
    if (!config_.compression.is_null()) return lack("together with compression_training");
    if (config_.mesh.tensor > 1) return lack("for parallel.tensor, which cuts weights; data, sequence and pipeline ranks have them whole");
    DS_TRY(const WeightFolder folder, WeightFolder::open(model_folder_));
    bool integers = false;
    for (const auto& [module, out_first] : linear_modules(graph)) {
        Value& weight = graph.value(graph.find(module + ".weight"));
        DS_TRY(auto found, read_coded_module(folder, model_config_, module, weight.type.shape, out_first, model_->names));
        if (!found) continue;
        if (adapters_ && weight.trainable) return lack("for " + module + ", which lora.modules_to_save names");
        weight.trainable = false;
        WeightCode& code = coded_[weight.name] = found->code;
        code.out_first = out_first;
        if (found->inputs != CodedModule::Inputs::whole)
            code = {.bits = 8, .by_output = true, .out_first = out_first, .fixed_input = found->inputs == CodedModule::Inputs::fixed};
        integers |= code.by_output;
        from_folder_[module] = std::move(*found);
    }
    if (integers && (!config_.optimizer.type.empty() || options_.optimizer || adapters_))
        return lack("for training, as integers are multiplied (input_activations): leave out optimizer and lora");
    for (const ValueId id : graph.inputs)
        if (integers) graph.value(id).trainable = false;
    return ok();
}

Status Engine::put_coded(const Param& p) {
    const auto found = from_folder_.find(p.name.substr(0, p.name.rfind('.')));
    const std::vector<uint8_t> codes = kept_codes(found->second, *p.code);
    for (const auto& rank : *ranks_)
        if (const Param* own = rank->params->find(p.name)) DS_CHECK(rank->params->put_codes(*own, codes.data()));
    from_folder_.erase(found);
    return ok();
}

// What is kept in integers, by module, in the form of coded_files.h.
Result<std::map<std::string, CodedModule>> Engine::coded_modules() {
    std::map<std::string, CodedModule> modules;
    std::vector<std::byte> copy;
    for (const auto& [name, code] : coded_) {
        const auto lack = [&](const std::string& what) {
            return fail(Code::E_UNSUPPORTED, "ds_export: option quantized: {}: {}", name, what);
        };
        if (!code.group && !code.by_output)
            return lack("there is a form for int4 and for int8_products, none for NF4, for 8 bits in blocks and for sparse_weights");
        const Param* p = nullptr;
        const ParamStore* store = nullptr;
        for (const auto& rank : *ranks_)
            if (!p && (p = rank->params->find(name))) store = rank->params.get();
        if (!p) return lack("another process has it");
        DS_TRY(const std::byte* codes, store->read_codes(*p, copy));
        modules.emplace(name.substr(0, name.rfind('.')),
                        module_of_codes(reinterpret_cast<const uint8_t*>(codes), code, p->outs(), p->ins()));
    }
    return modules;
}

// A checkpoint has what is trained. A coded base comes from its folder again; these say whether it is the same.
Result<Json> Engine::coded_checksums() const {
    Json sums = Json::object();
    std::vector<std::byte> copy;
    for (const auto& [name, code] : coded_) {
        sums[name] = nullptr;  // another process has it
        for (const auto& rank : *ranks_) {
            const Param* p = rank->params->find(name);
            if (!p) continue;
            DS_TRY(const std::byte* codes, rank->params->read_codes(*p, copy));
            sums[name] = checksum_of({codes, static_cast<size_t>(p->code_bytes())});
        }
    }
    return sums;
}

Status Engine::check_coded(const Json& saved, const std::string& folder) const {
    DS_TRY(const Json mine, coded_.empty() ? Result<Json>(Json::object()) : coded_checksums());
    for (const auto& [name, sum] : saved.items()) {
        if (!mine.contains(name))
            return fail(Code::E_STATE,
                        "{}: {} was kept in few bits (quantization) or without its zeros (sparse_weights) when this was saved, and is not "
                        "in it; this engine keeps it whole",
                        folder, name);
        if (!sum.is_null() && !mine[name].is_null() && mine[name] != sum)
            return fail(Code::E_STATE,
                        "{}: {} was made from other values, or with other settings of quantization or sparse_weights, than this engine's",
                        folder, name);
    }
    return ok();
}

}  // namespace ds
