#include "passes/pass.h"

#include "base/file.h"
#include "ir/op.h"
#include "ir/text.h"

namespace ds {

#define DS_PASS(name)                        \
    namespace passes {                       \
    Status name(Graph&, const PassOptions&); \
    }
#include "passes/passes.def"
#undef DS_PASS

std::vector<Pass> all_passes() {
    return {
#define DS_PASS(name) {#name, passes::name},
#include "passes/passes.def"
#undef DS_PASS
    };
}

const Pass* find_pass(std::string_view name) {
    static const std::vector<Pass> passes = all_passes();
    for (const Pass& pass : passes)
        if (pass.name == name) return &pass;
    return nullptr;
}

Status run_passes(Graph& graph, const PassOptions& options) {
    int number = 0;
    const auto dump = [&](std::string_view name) -> Status {
        if (options.dump.empty()) return ok();
        return write_file_atomically(options.dump / fmt::format("{}.{:02}.after_{}.ir", graph.name, number++, name), print(graph));
    };
    DS_CHECK(dump("build"));
    for (const Pass& pass : all_passes()) {
        DS_CHECK(pass.run(graph, options));
#ifndef NDEBUG
        if (Status status = verify(graph); !status.ok()) return std::move(status).within(fmt::format("after pass {}", pass.name));
#endif
        DS_CHECK(dump(pass.name));
    }
    return verify(graph);
}

void replace_uses(Graph& graph, ValueId from, ValueId to) {
    for (Node& node : graph.nodes)
        for (ValueId& id : node.in)
            if (id == from) id = to;
    for (auto& [name, id] : graph.outputs)
        if (id == from) id = to;
    for (auto& [param, grad] : graph.grads)
        if (grad == from) grad = to;
    if (graph.loss == from) graph.loss = to;
    for (auto* crossings : {&graph.received, &graph.sent})
        for (Crossing& c : *crossings) {
            if (c.value == from) c.value = to;
            if (c.gradient == from) c.gradient = to;
        }
}

std::vector<int> producers(const Graph& graph) {
    std::vector<int> made(graph.values.size(), -1);
    for (size_t i = 0; i < graph.nodes.size(); ++i)
        for (const ValueId id : graph.nodes[i].out) made[static_cast<size_t>(id)] = static_cast<int>(i);
    return made;
}

bool glob_match(std::string_view pattern, std::string_view text) {
    size_t p = 0, t = 0, star = pattern.npos, star_text = 0;
    while (t < text.size()) {
        if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') ++p, ++t;
        else if (p < pattern.size() && pattern[p] == '*') star = p++, star_text = t;
        else if (star != pattern.npos) p = star + 1, t = ++star_text;
        else return false;
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
}

}  // namespace ds
