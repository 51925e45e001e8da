#include "passes/distillation.h"

#include <map>
#include <set>

#include "ir/builder.h"
#include "ops/attrs_compress.h"
#include "passes/pass.h"

namespace ds {
namespace {

Status refuse(const std::string& what) { return fail(Code::E_CONFIG, "config: compression_training.knowledge_distillation: {}", what); }

// The cross-entropy that a graph's loss is.
const Node* loss_of(const Graph& graph) {
    const int index = graph.loss == kNone ? -1 : producers(graph)[static_cast<size_t>(graph.loss)];
    return index >= 0 && graph.nodes[static_cast<size_t>(index)].op->name == "cross_entropy" ? &graph.nodes[static_cast<size_t>(index)]
                                                                                             : nullptr;
}

std::vector<ValueId> boundaries(const Graph& graph) {
    std::vector<ValueId> list;
    for (const Node& node : graph.nodes)
        if (graph.value(node.out[0]).boundary) list.push_back(node.out[0]);
    return list;
}

// All of `part` but the node `left_out`; answers where its values are.
std::map<ValueId, ValueId> append(Graph& graph, const Graph& part, const Node* left_out) {
    std::map<ValueId, ValueId> here;
    const std::set<ValueId> without(left_out->out.begin(), left_out->out.end());
    for (ValueId id = 0; id < static_cast<ValueId>(part.values.size()); ++id) {
        if (without.count(id)) continue;
        Value value = part.value(id);
        const ValueId known = value.kind == Kind::input ? graph.find(value.name) : kNone;
        if (value.kind != Kind::input) value.name = std::string(kTeacher) + value.name;
        value.trainable = false;
        value.boundary = 0;
        here[id] = known != kNone ? known : graph.add_value(std::move(value));
    }
    for (const Node& given : part.nodes) {
        if (&given == left_out) continue;
        Node node = given;
        for (ValueId& id : node.in)
            if (id != kNone) id = here.at(id);
        for (ValueId& id : node.out) id = here.at(id);
        graph.nodes.push_back(std::move(node));
    }
    return here;
}

// The mean over the batch's real tokens of squared distances.
ValueId distance(Builder& b, ValueId x, ValueId y, ValueId real) {
    const auto over_batch = [&](ValueId of_tokens) { return b.call("batch_sum", {b.call("sum", {of_tokens})}); };
    const ValueId difference = b.sub(x, y), by_token = b.call("sum", {b.mul(difference, difference)}, Reduce{.axes = {-1}});
    return b.div(over_batch(b.mul(by_token, real)), b.scale(over_batch(real), static_cast<double>(b.type(x).shape.back())));
}

}  // namespace

Status add_distillation(Graph& student, const Graph& teacher, const DistillationSpec& spec) {
    const Node *own = loss_of(student), *theirs = loss_of(teacher);
    if (!own || !theirs)
        return fail(Code::E_UNSUPPORTED,
                    "config: compression_training.knowledge_distillation: built for heads whose loss is one cross-entropy of classes");
    const ValueId logits = own->in[0], labels = own->in[1], loss = student.loss;
    if (student.type(logits).shape != teacher.type(theirs->in[0]).shape)
        return refuse(fmt::format("the teacher's logits are {}, but the student's are {}",
                                  dims_to_string(teacher.type(theirs->in[0]).shape), dims_to_string(student.type(logits).shape)));
    const std::vector<ValueId> states = boundaries(student), taught = boundaries(teacher);
    const auto here = append(student, teacher, theirs);
    Builder b(student);
    const ValueId soft = b.call("distillation_loss", {logits, here.at(theirs->in[0]), labels}, Distillation{spec.temperature}, "soft_loss");
    ValueId total = b.add(b.scale(loss, 1 - spec.alpha), b.scale(soft, spec.alpha));
    if (spec.hidden > 0) {
        if (spec.layers.empty() && states.size() != taught.size())
            return refuse(fmt::format(
                "hidden_weight: the student has {} blocks and the teacher {}; layer_reduction.teacher_layer says which belong together",
                states.size() - 1, taught.size() - 1));
        const ValueId known = student.find("real"),
                      real = known != kNone ? known : b.input("real", DType::f32, {student.type(states.front()).shape[0]});
        for (size_t i = 0; i < states.size(); ++i) {  // what goes into the first block, then what comes out of each
            const size_t of_teacher = i == 0 || spec.layers.empty() ? i : static_cast<size_t>(spec.layers[i - 1]) + 1;
            const ValueId state = here.at(taught[of_teacher]);
            if (student.type(states[i]).shape != student.type(state).shape)
                return refuse(fmt::format("hidden_weight: the student's states are {}, but the teacher's are {}",
                                          dims_to_string(student.type(states[i]).shape), dims_to_string(student.type(state).shape)));
            total = b.add(total, b.scale(distance(b, states[i], state, real), spec.hidden));
        }
    }
    student.loss = total;
    return b.status();
}

}  // namespace ds
