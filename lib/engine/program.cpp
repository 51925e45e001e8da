#include "engine/program.h"

#include <algorithm>
#include <cstring>

#include "engine/pack.h"

namespace ds {
namespace {

class ModelProgram : public Program {
public:
    ModelProgram(std::shared_ptr<const Model> model, std::set<std::string> whole, const AdapterSpec* adapters)
        : model_(std::move(model)), adapters_(adapters) {
        for (const std::string& name : model_->token_outputs) whole_.tokens |= whole.count(name) > 0;
        for (const std::string& name : model_->source_outputs) whole_.source |= whole.count(name) > 0;
    }

    Result<Packed> pack(const Batch& batch, const std::set<std::string>& outputs, int64_t first_row) const override {
        return pack_for_model(*model_, batch, outputs, whole_, first_row);
    }
    int row_dimension(const std::string&) const override { return 0; }
    int row_dimension_of_output(const std::string&) const override { return 0; }

    Result<Graph> build(const StreamShape& shape, const std::set<std::string>& outputs) const override {
        Graph graph;
        graph.name = model_->family;
        Builder b(graph);
        TokenStream stream(b, shape, outputs);
        model_->build(b, stream);
        DS_CHECK(b.status());
        if (adapters_) DS_CHECK(add_adapters(graph, *adapters_));
        return graph;
    }

    HostTensor unpack(const std::string& output, const Packed& packed, HostTensor value) const override {
        if (!by_token(output)) return value;
        const std::vector<int32_t>& places = of_source(output) ? packed.source_places : packed.places;
        Shape shape = of_source(output) ? packed.source_grid : packed.grid;
        shape.insert(shape.end(), value.shape.begin() + 1, value.shape.end());
        HostTensor padded = HostTensor::zeros(value.dtype, shape);
        const auto row_bytes = static_cast<size_t>(value.bytes() / std::max<int64_t>(value.shape[0], 1));
        for (size_t i = 0; i < places.size(); ++i)
            std::memcpy(static_cast<char*>(padded.data) + static_cast<size_t>(places[i]) * row_bytes,
                        static_cast<const char*>(value.data) + i * row_bytes, row_bytes);
        return padded;
    }

    Result<HostTensor> pack_gradient(const std::string& output, const Packed& packed, const HostTensor& gradient,
                                     const Shape& graph_shape) const override {
        const std::vector<int32_t>& places = of_source(output) ? packed.source_places : packed.places;
        const Shape& grid = of_source(output) ? packed.source_grid : packed.grid;
        Shape expected = graph_shape;
        if (by_token(output)) {
            expected.erase(expected.begin());
            expected.insert(expected.begin(), grid.begin(), grid.end());
        }
        if (gradient.shape != expected)
            return fail(Code::E_INVALID_ARGUMENT, "gradient of {}: must have the output's shape {}, but is {}", output, expected,
                        gradient.shape);
        const HostTensor f32 = gradient.to(DType::f32);
        if (!by_token(output)) return f32;
        HostTensor stream = HostTensor::zeros(DType::f32, graph_shape);
        const auto row_bytes = static_cast<size_t>(stream.bytes() / std::max<int64_t>(graph_shape[0], 1));
        for (size_t i = 0; i < places.size(); ++i)
            std::memcpy(static_cast<char*>(stream.data) + i * row_bytes,
                        static_cast<const char*>(f32.data) + static_cast<size_t>(places[i]) * row_bytes, row_bytes);
        return stream;
    }

    std::vector<std::string> outputs() const override { return model_->outputs; }
    const Model* model() const override { return model_.get(); }

private:
    bool of_source(const std::string& output) const {
        return std::count(model_->source_outputs.begin(), model_->source_outputs.end(), output) > 0;
    }
    bool by_token(const std::string& output) const {
        return of_source(output) || std::count(model_->token_outputs.begin(), model_->token_outputs.end(), output) > 0;
    }

    std::shared_ptr<const Model> model_;
    const AdapterSpec* adapters_;
    WholeOutputs whole_;
};

class GraphProgram : public Program {
public:
    explicit GraphProgram(std::shared_ptr<const HostGraph> host) : host_(std::move(host)) {
        const Graph& g = host_->graph();
        for (const Node& node : g.nodes)
            if (g.loss != kNone && node.out[0] == g.loss && node.op->name == "cross_entropy" && g.value(node.in[1]).kind == Kind::input)
                labels_ = node.in[1], ignore_ = node.attrs.as<CrossEntropy>().ignore;
    }

    int row_dimension(const std::string& name) const override {
        const ValueId id = host_->graph().find(name);
        return id == kNone ? -1 : row_dimension(id);
    }
    int row_dimension_of_output(const std::string& name) const override {
        for (const auto& [output, id] : host_->graph().outputs)
            if (output == name) return row_dimension(id);
        return -1;
    }

    Result<Packed> pack(const Batch& batch, const std::set<std::string>&, int64_t) const override {
        const Graph& g = host_->graph();
        Packed packed;
        int64_t rows = -1, length = -1;
        for (const auto& [name, tensor] : batch) {
            const ValueId id = g.find(name);
            if (id == kNone || g.value(id).kind != Kind::input)
                return fail(Code::E_INVALID_ARGUMENT, "batch: {} is not an input of the graph; its inputs are {}", name, input_names());
        }
        for (const ValueId id : g.inputs) {
            const Value& v = g.value(id);
            if (v.kind != Kind::input) continue;
            const auto found = batch.find(v.name);
            if (found == batch.end()) {
                if (needed(id)) return fail(Code::E_INVALID_ARGUMENT, "batch: {} {} is missing", v.name, to_string(v.type));
                continue;
            }
            DS_CHECK(match(v, found->second.shape, rows, length));
            DS_CHECK(check_range(id, found->second));
            packed.inputs[v.name] = v.type.dtype == DType::u8 ? as_mask(found->second) : found->second.to(v.type.dtype).clone();
        }
        packed.shape.rows = std::max<int64_t>(rows, 1);
        packed.shape.length = std::max<int64_t>(length, 1);
        packed.shape.labels = packed.labels = g.loss != kNone && reaches_loss(batch);
        packed.part_weight = labels_ == kNone ? packed.shape.rows : kept_labels(batch);
        packed.label_count = 1;  // the loss is the host's own: every micro-batch weighs the same
        packed.tokens = packed.shape.rows * packed.shape.length;
        return packed;
    }

    Result<Graph> build(const StreamShape& shape, const std::set<std::string>& outputs) const override {
        DS_TRY(Graph graph, bind(host_->graph(), shape.rows, shape.length));
        if (!shape.labels) graph.loss = kNone;
        std::erase_if(graph.outputs, [&](const auto& output) { return outputs.count(output.first) == 0; });
        return graph;
    }

    HostTensor unpack(const std::string&, const Packed&, HostTensor value) const override { return value; }

    Result<HostTensor> pack_gradient(const std::string& output, const Packed&, const HostTensor& gradient,
                                     const Shape& graph_shape) const override {
        if (gradient.shape != graph_shape)
            return fail(Code::E_INVALID_ARGUMENT, "gradient of {}: must have the output's shape {}, but is {}", output, graph_shape,
                        gradient.shape);
        return gradient.to(DType::f32);
    }

    std::vector<std::string> outputs() const override {
        std::vector<std::string> names;
        for (const auto& [name, id] : host_->graph().outputs) names.push_back(name);
        return names;
    }

private:
    int row_dimension(ValueId id) const {
        const Shape& shape = host_->graph().type(id).shape;
        const auto at = std::find(shape.begin(), shape.end(), kRows);
        return at == shape.end() ? -1 : static_cast<int>(at - shape.begin());
    }

    // Ids that look up rows of a table, and labels: kernels trust them.
    Status check_range(ValueId input, const HostTensor& given) const {
        const Graph& g = host_->graph();
        if (g.type(input).dtype != DType::i32) return ok();
        std::set<ValueId> same{input};
        const HostTensor values = given.to(DType::i64);
        for (const Node& node : g.nodes) {
            if (node.op->view && same.count(node.in[0])) same.insert(node.out[0]);
            const bool table = node.op->name == "embedding" && same.count(node.in[1]),
                       labels = node.op->name == "cross_entropy" && same.count(node.in[1]),
                       fused = node.op->name == "linear_cross_entropy" && same.count(node.in[3]);
            if (!table && !labels && !fused) continue;
            const int64_t end = labels ? g.type(node.in[0]).shape.back() : g.type(node.in[table ? 0 : 1]).shape[0];
            const int64_t ignore = table ? (node.attrs.as<Embedding>().inside ? 0 : -1) : node.attrs.as<CrossEntropy>().ignore;
            for (int64_t i = 0; i < values.count(); ++i)
                if (const int64_t x = values.as<int64_t>()[static_cast<size_t>(i)]; x != ignore && (x < 0 || x >= end))
                    return fail(Code::E_INVALID_ARGUMENT, "{}: element {} is {}, outside 0..{} and not {} ({})", g.value(input).name, i, x,
                                end - 1, ignore, table ? "a row of zeros" : "ignored");
        }
        return ok();
    }

    static HostTensor as_mask(const HostTensor& t) {
        const HostTensor wide = t.to(DType::f32);
        HostTensor mask = HostTensor::zeros(DType::u8, t.shape);
        for (int64_t i = 0; i < mask.count(); ++i)
            mask.as<uint8_t>()[static_cast<size_t>(i)] = wide.as<float>()[static_cast<size_t>(i)] != 0;
        return mask;
    }

    std::string input_names() const {
        std::string names;
        for (const ValueId id : host_->graph().inputs)
            if (host_->graph().value(id).kind == Kind::input) names += (names.empty() ? "" : ", ") + host_->graph().value(id).name;
        return names.empty() ? "none" : names;
    }

    // Without the operands of the loss a batch can still compute outputs.
    bool needed(ValueId id) const {
        std::vector<bool> live(host_->graph().values.size(), false);
        for (const auto& [name, output] : host_->graph().outputs) live[static_cast<size_t>(output)] = true;
        if (host_->graph().outputs.empty() && host_->graph().loss != kNone) live[static_cast<size_t>(host_->graph().loss)] = true;
        propagate(live);
        return live[static_cast<size_t>(id)];
    }

    bool reaches_loss(const Batch& batch) const {
        const Graph& g = host_->graph();
        std::vector<bool> live(g.values.size(), false);
        live[static_cast<size_t>(g.loss)] = true;
        propagate(live);
        for (const ValueId id : g.inputs)
            if (g.value(id).kind == Kind::input && live[static_cast<size_t>(id)] && !batch.count(g.value(id).name)) return false;
        return true;
    }

    void propagate(std::vector<bool>& live) const {
        const Graph& g = host_->graph();
        for (auto node = g.nodes.rbegin(); node != g.nodes.rend(); ++node) {
            bool any = false;
            for (const ValueId out : node->out) any |= live[static_cast<size_t>(out)];
            for (const ValueId in : node->in)
                if (any && in != kNone) live[static_cast<size_t>(in)] = true;
        }
    }

    int64_t kept_labels(const Batch& batch) const {
        const auto found = batch.find(host_->graph().value(labels_).name);
        if (found == batch.end()) return 0;
        const HostTensor labels = found->second.to(DType::i64);
        const auto all = labels.as<int64_t>();
        return std::count_if(all.begin(), all.end(), [&](int64_t label) { return label != ignore_; });
    }

    static Status match(const Value& v, const Shape& given, int64_t& rows, int64_t& length) {
        const auto wrong = [&] {
            return fail(Code::E_INVALID_ARGUMENT, "{}: the graph wants {}, but the batch has {}", v.name, dims_to_string(v.type.shape),
                        given);
        };
        if (given.size() != v.type.shape.size()) return wrong();
        for (size_t i = 0; i < given.size(); ++i) {
            const int64_t want = v.type.shape[i];
            int64_t* size = want == kRows ? &rows : want == kLength ? &length : nullptr;
            if (size && *size < 0) *size = given[i];
            if (given[i] != (size ? *size : want) || given[i] < 1) return wrong();
        }
        return ok();
    }

    std::shared_ptr<const HostGraph> host_;
    ValueId labels_ = kNone;  // of a loss that is the mean over those that are not `ignore`: data ranks weigh by what they have of them
    int64_t ignore_ = 0;
};

}  // namespace

std::unique_ptr<Program> make_program(std::shared_ptr<const Model> model, std::set<std::string> whole, const AdapterSpec* adapters) {
    return std::make_unique<ModelProgram>(std::move(model), std::move(whole), adapters);
}

std::unique_ptr<Program> make_program(std::shared_ptr<const HostGraph> graph) { return std::make_unique<GraphProgram>(std::move(graph)); }

}  // namespace ds
