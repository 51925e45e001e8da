// HostGraph: a graph under construction by the host, value by value, checked at every step.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ir/host_op.h"
#include "models/model.h"

namespace ds {

class HostGraph {
public:
    static Result<std::shared_ptr<HostGraph>> parse(std::string_view text, std::string_view place);
    // The text form into this graph, which has nothing yet but ops of the host's own.
    Status read(std::string_view text, std::string_view place);
    Status define_op(HostFunctions functions);  // from now on an op of this graph

    // shape: the first -1 is the number of rows of a batch, the second its length.
    Result<int32_t> input(const std::string& name, DType dtype, Shape shape);
    Result<int32_t> param(const std::string& name, DType dtype, const Shape& shape, std::string_view init_json);
    Result<std::vector<int32_t>> op(std::string_view op, std::span<const int32_t> inputs, std::string_view attrs_json);
    // The body of a model family as part of this graph; inputs: input_ids and, if wanted, attention_mask, token_type_ids and position_ids,
    // each [rows, length]. options: "prefix" of its parameters' names, "model_overrides", "model_init". Weights of the folder are loaded
    // when an engine is created.
    Result<int32_t> model(const std::string& folder, std::string_view options_json, std::span<const int32_t> inputs,
                          const std::string& output);
    Status output(const std::string& name, int32_t value);
    Status loss(int32_t value);

    std::shared_ptr<HostGraph> snapshot() const { return std::make_shared<HostGraph>(*this); }
    const Graph& graph() const { return graph_; }
    std::string a_host_op() const;  // the name of one that the graph uses; "": none
    struct Embedded {
        std::string folder, prefix;
        TensorNames names;
        bool random = false;
    };
    const std::vector<Embedded>& models() const { return models_; }

private:
    Result<int32_t> embed(const std::string& folder, std::string_view options_json, std::span<const int32_t> inputs,
                          const std::string& output);
    const OpDef* find(std::string_view op) const;
    const Embedded* embedded(const std::string& prefix) const;
    Result<ValueId> append(const Graph& part, std::map<ValueId, ValueId> given, const std::string& prefix);
    static Status check_text(const Graph& graph);
    Status check(int32_t value, std::string_view what) const;
    Graph graph_;
    std::map<std::string, std::shared_ptr<const HostOp>, std::less<>> ops_;  // the host's own
    std::vector<Embedded> models_;
};

}  // namespace ds
