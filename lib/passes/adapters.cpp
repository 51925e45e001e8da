#include "passes/adapters.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "ir/builder.h"
#include "passes/pass.h"

namespace ds {
namespace {

constexpr std::string_view kWeight = ".weight", kBias = ".bias";
constexpr int64_t kFirstSalt = 1 << 20;  // of dropout: beyond those of models

// What PEFT adapts where nothing is said: of these, the first whose names the model has.
const std::vector<std::vector<std::string>> kCustomary = {
    {"c_attn"}, {"query_key_value"}, {"q_proj", "v_proj"}, {"query", "value"}, {"q", "v"}};

// Products by a weight of their own, and their module's name. A table that is looked up too (a tied head) is not one.
std::map<ValueId, std::string> products_of(const Graph& graph) {
    std::set<ValueId> tables;
    std::map<ValueId, std::string> products;
    for (const Node& node : graph.nodes)
        if (node.op->name == "embedding") tables.insert(node.in[0]);
    for (const Node& node : graph.nodes) {
        if (node.op->name != "matmul" || tables.count(node.in[1])) continue;
        const std::string module = module_of(graph, node.in[1]);
        if (!module.empty() && graph.type(node.in[1]).shape.size() == 2 && !node.attrs.as<Matmul>().transpose_a)
            products[node.in[1]] = module;
    }
    return products;
}

class Adapting {
public:
    Adapting(Graph& graph, const AdapterSpec& spec) : graph_(graph), spec_(spec), b_(graph), products_(products_of(graph)) {}

    Status run() {
        std::vector<Node> nodes = std::move(graph_.nodes);
        graph_.nodes.clear();
        for (Node& node : nodes) {
            const auto product = node.op->name == "matmul" ? products_.find(node.in[1]) : products_.end();
            if (product == products_.end() || !spec_.modules.count(product->second)) graph_.nodes.push_back(std::move(node));
            else adapt(std::move(node), product->second);
        }
        choose_trained();
        return b_.status();
    }

private:
    void adapt(Node node, const std::string& module) {
        const ValueId x = node.in[0], w = node.in[1], y = node.out[0];
        const bool out_first = node.attrs.as<Matmul>().transpose_b;
        const Shape shape = graph_.type(w).shape;
        const int64_t out = shape[out_first ? 0 : 1], in = shape[out_first ? 1 : 0];
        node.out[0] = graph_.add_value({.name = graph_.value(y).name + ".base", .type = graph_.type(y)});
        const ValueId base = node.out[0];
        graph_.nodes.push_back(std::move(node));
        // As PEFT begins: A as torch's Linear (Kaiming, a = sqrt 5), B zero, so that at first nothing changes.
        const ValueId a =
            b_.param(adapter_tensor(module, 'A'), {spec_.r, in}, {Init::Type::uniform, 1 / std::sqrt(static_cast<double>(in))});
        const ValueId bb = b_.param(adapter_tensor(module, 'B'), {out, spec_.r}, {Init::Type::zeros});
        ValueId h = b_.call("matmul", {dropped(x), a}, Matmul{.transpose_b = true}, module + ".lora_A");
        if (spec_.scale != 1) h = b_.scale(h, spec_.scale);
        const ValueId change = b_.call("matmul", {h, bb}, Matmul{.transpose_b = true}, module + ".lora_B");
        graph_.nodes.push_back({find_op("add"), {}, {base, change}, {y}});
        adapted_.insert(module);
    }

    ValueId dropped(ValueId x) {
        if (spec_.dropout <= 0) return x;
        return b_.call("dropout", {x, b_.places_of(x)}, Dropout{spec_.dropout, kFirstSalt + static_cast<int64_t>(adapted_.size())});
    }

    void choose_trained() {
        for (const ValueId id : graph_.inputs) {
            Value& v = graph_.value(id);
            if (v.kind != Kind::param) continue;
            const size_t dot = v.name.rfind('.');
            const std::string module = dot == v.name.npos ? v.name : v.name.substr(0, dot);
            v.trainable = is_adapter_tensor(v.name);
            if (v.name.ends_with(kBias))
                v.trainable |= spec_.bias == AdapterBias::all || (spec_.bias == AdapterBias::adapted && adapted_.count(module));
            for (const std::string& saved : spec_.trained)
                v.trainable |=
                    module_named(saved, module) || module.find("." + saved + ".") != module.npos || module.starts_with(saved + ".");
        }
    }

    Graph& graph_;
    const AdapterSpec& spec_;
    Builder b_;
    const std::map<ValueId, std::string> products_;
    std::set<std::string> adapted_;
};

}  // namespace

bool is_adapter_tensor(std::string_view name) {
    return name.starts_with("base_model.model.") && (name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight"));
}

bool module_named(const std::string& pattern, const std::string& module) {
    return module == pattern || module.ends_with("." + pattern) || glob_match(pattern, module);
}

std::string module_of(const Graph& graph, ValueId id) {
    const Value& v = graph.value(id);
    return v.kind == Kind::param && v.name.ends_with(kWeight) ? v.name.substr(0, v.name.size() - kWeight.size()) : "";
}

std::set<std::string> embedding_modules(const Graph& graph) {
    std::set<std::string> modules;
    for (const Node& node : graph.nodes)
        if (node.op->name == "embedding") modules.insert(module_of(graph, node.in[0]));
    modules.erase("");
    return modules;
}

std::map<std::string, bool> linear_modules(const Graph& graph) {
    const auto products = products_of(graph);
    std::map<std::string, bool> modules;
    for (const Node& node : graph.nodes)
        if (const auto product = node.op->name == "matmul" ? products.find(node.in[1]) : products.end(); product != products.end())
            modules[product->second] = node.attrs.as<Matmul>().transpose_b;
    return modules;
}

Result<std::map<std::string, bool>> linear_modules_but(const Graph& graph, const std::optional<std::vector<std::string>>& skip,
                                                       std::string_view key) {
    static const std::vector<std::string> heads = {"lm_head", "embed_out", "output_layer", "score", "classifier", "qa_outputs", "decoder"};
    std::map<std::string, bool> modules = linear_modules(graph);
    std::set<std::string> used;
    std::erase_if(modules, [&](const auto& module) {
        for (const std::string& pattern : skip ? *skip : heads)
            if (module_named(pattern, module.first)) return used.insert(pattern), true;
        return false;
    });
    if (skip)
        for (const std::string& pattern : *skip)
            if (!used.contains(pattern))
                return fail(Code::E_CONFIG, "config: {}: no linear module of the model is called {}", key, pattern);
    return modules;
}

Result<std::set<std::string>> modules_named(const Graph& graph, const std::vector<std::string>& targets) {
    const std::map<std::string, bool> modules = linear_modules(graph);
    std::set<std::string> last, chosen;
    for (const auto& [module, out_first] : modules) last.insert(module.substr(module.rfind('.') + 1));
    const auto matches = [&](const std::string& target) {
        std::set<std::string> found;
        for (const auto& [module, out_first] : modules)
            if (target == "all-linear" ? module != "lm_head" && module != "score" && module != "classifier" : module_named(target, module))
                found.insert(module);
        return found;
    };
    std::vector<std::string> wanted = targets;
    for (const auto& list : kCustomary)
        if (wanted.empty() && std::none_of(list.begin(), list.end(), [&](const std::string& target) { return matches(target).empty(); }))
            wanted = list;
    if (wanted.empty())
        return fail(Code::E_CONFIG, "config: lora.target_modules: must be given for this model; its linear modules are like {}",
                    fmt::join(last, ", "));
    for (const std::string& target : wanted) {
        const std::set<std::string> found = matches(target);
        if (found.empty())
            return fail(Code::E_CONFIG, "config: lora.target_modules: no linear module of the model is called {}; they are like {}", target,
                        fmt::join(last, ", "));
        chosen.insert(found.begin(), found.end());
    }
    return chosen;
}

Status add_adapters(Graph& graph, const AdapterSpec& spec) { return Adapting(graph, spec).run(); }

}  // namespace ds
