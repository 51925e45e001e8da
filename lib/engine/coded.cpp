// quantization: which frozen weights are kept in few bits (QLoRA: Dettmers et al. 2023, arXiv 2305.14314), and what checkpoints say about them.
#include "ckpt/durable_file.h"
#include "engine/engine.h"
#include "passes/adapters.h"

namespace ds {

Status Engine::choose_coded(Graph& graph) {
    const QuantizationConfig& wanted = config_.quantization;
    if (!wanted.enabled) return ok();
    const auto lack = [](const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: quantization: not built {}", what); };
    if (!model_) return lack("for a host's own graph");
    if (!config_.compression.is_null()) return lack("together with compression_training");
    if (config_.mesh.tensor > 1) return lack("for parallel.tensor, which cuts weights; data, sequence and pipeline ranks have them whole");
    if (wanted.code.by_output && (!config_.optimizer.type.empty() || options_.optimizer || adapters_))
        return lack("for training with int8_products, which round what goes into them: leave out optimizer and lora, or int8_products");
    DS_TRY(const auto modules, linear_modules_but(graph, wanted.skip, "quantization.llm_int8_skip_modules"));
    for (const auto& [module, out_first] : modules) {
        Value& weight = graph.value(graph.find(module + ".weight"));
        if (adapters_ && weight.trainable) continue;  // modules_to_save
        weight.trainable = false;
        coded_[weight.name] = wanted.code;
        coded_[weight.name].out_first = out_first;
    }
    for (const ValueId id : graph.inputs)  // nothing is trained through integers
        if (wanted.code.by_output) graph.value(id).trainable = false;
    if (coded_.empty()) return lack("for this model: it has no linear modules besides its head");
    return ok();
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
            sums[name] = checksum_of({codes, static_cast<size_t>(coded_bytes(p->shape[0], p->shape[1], code))});
        }
    }
    return sums;
}

Status Engine::check_coded(const Json& saved, const std::string& folder) const {
    DS_TRY(const Json mine, coded_.empty() ? Result<Json>(Json::object()) : coded_checksums());
    for (const auto& [name, sum] : saved.items()) {
        if (!mine.contains(name))
            return fail(Code::E_STATE, "{}: {} was kept in few bits (quantization) when this was saved, and is not in it; this engine keeps it whole", folder, name);
        if (!sum.is_null() && !mine[name].is_null() && mine[name] != sum)
            return fail(Code::E_STATE, "{}: {} was made from other values, or with other settings of quantization, than this engine's", folder, name);
    }
    return ok();
}

}  // namespace ds
