// Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) as a rewriting of the forward graph:  y = x W + b  becomes  y = x W + b +
// scale (x A^T) B^T for the chosen products, with A [r, in] and B [out, r] trained and everything else frozen. It declares parameters, so
// it runs where a graph is built and is no row of passes.def; models know nothing of it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

enum class AdapterBias { none, all, adapted };  // which of the model's biases are trained too

struct AdapterSpec {
    int64_t r = 8;
    double scale = 1;                  // alpha / r, or alpha / sqrt(r)
    double dropout = 0;                // of x on its way to A
    std::set<std::string> modules;     // whose products are adapted, by whole name
    std::vector<std::string> trained;  // last names of modules that are trained whole (modules_to_save)
    AdapterBias bias = AdapterBias::none;
};

// PEFT's name of an adapter's tensor in adapter_model.safetensors, which is the parameter's name here.
inline std::string adapter_tensor(const std::string& module, char which) {
    return "base_model.model." + module + ".lora_" + which + ".weight";
}
bool is_adapter_tensor(std::string_view name);

// Whether a pattern means a module: its last names ("q_proj", "self_attn.q_proj"), all of them, or a glob.
bool module_named(const std::string& pattern, const std::string& module);
// The module whose weight a value is; else "".
std::string module_of(const Graph& graph, ValueId id);
// Whose table is looked up by ids.
std::set<std::string> embedding_modules(const Graph& graph);
// The linear modules of a graph, and whether their weight lies [out, in] (GPT-2's lies [in, out]).
std::map<std::string, bool> linear_modules(const Graph& graph);
// Those that no pattern of `skip` means; nothing: those that are no heads, which transformers leaves as they are. E_CONFIG, naming the
// config's `key`, where a pattern means none.
Result<std::map<std::string, bool>> linear_modules_but(const Graph& graph, const std::optional<std::vector<std::string>>& skip,
                                                       std::string_view key);
// The modules that targets name, among the products of a whole model: last names ("q_proj"), whole ones, or globs; nothing: the customary
// ones; "all-linear": all but the head. E_CONFIG where one names none.
Result<std::set<std::string>> modules_named(const Graph& graph, const std::vector<std::string>& targets);
// Modules that this graph lacks are passed over. Sets which parameters are trained.
Status add_adapters(Graph& graph, const AdapterSpec& spec);

}  // namespace ds
