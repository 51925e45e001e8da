#include "models/mixture.h"

namespace ds::models {

ValueId Mixture::build(Blocks& m, TokenStream& s, ValueId h, const Activation& activation, const Scope& w, Load& load) const {
    Builder& b = m.b;
    const int64_t width = m.width(h);
    const ValueId probabilities = b.call("softmax", {b.cast(m.linear(h, w("gate"), experts, false), DType::f32)});
    const auto best = b.call_all("top_k", {probabilities}, TopK{chosen});
    const ValueId share = shares_sum_to_one ? b.div(best[0], b.call("sum", {best[0]}, Reduce{{1}, true})) : best[0];
    const auto rows = b.call_all("expert_rows", {best[1], s.real()}, Routing{.experts = experts});
    const ValueId tokens = rows[0], ends = rows[1], places = rows[2];
    const ValueId own = b.call("embedding", {h, tokens});
    const ValueId gated = activation(b, grouped(m, own, ends, w, gate, inner)), plain = grouped(m, own, ends, w, up, inner);
    const ValueId y = b.call("combine", {grouped(m, b.mul(gated, plain), ends, w, down, width), share, places});
    if (balance != 0 && s.shape().labels) {
        const ValueId sums = b.call("sum", {b.mul(probabilities, b.reshape(s.real(), {s.shape().tokens, 1}))}, Reduce{{0}});
        load.counts = load.counts == kNone ? rows[3] : b.add(load.counts, rows[3]);
        load.probabilities = load.probabilities == kNone ? sums : b.add(load.probabilities, sums);
        ++load.layers;
    }
    return shared_inner ? b.add(y, shared(m, h, activation, w)) : y;
}

// Each expert's rows by its own weight.
ValueId Mixture::grouped(Blocks& m, ValueId x, ValueId ends, const Scope& w, const std::string& name, int64_t out) const {
    std::vector<ValueId> in{x, ends};
    for (int64_t e = 0; e < experts; ++e) in.push_back(m.weight(w("experts")(std::to_string(e))(name), "weight", {out, m.width(x)}));
    return m.b.call("grouped_matmul", in, Matmul{.transpose_b = true}, w(name).prefix);
}

// y * sigmoid(gate), where sigmoid(x) = (1 + tanh(x / 2)) / 2.
ValueId Mixture::shared(Blocks& m, ValueId h, const Activation& activation, const Scope& w) const {
    Builder& b = m.b;
    const ValueId y = gated_mlp(m, h, activation, w("shared_expert"), shared_inner, false);
    const ValueId tanh = b.call("tanh", {b.scale(m.linear(h, w("shared_expert_gate"), 1, false), 0.5)});
    return b.scale(b.add(y, b.mul(y, tanh)), 0.5);
}

// experts * sum over experts of (share of choices) * (mean probability): k where the load is even, more where it is not.
ValueId Mixture::imbalance(Builder& b, TokenStream& s, const Load& load) const {
    const auto over_batch = [&](ValueId x) { return b.call("batch_sum", {x}); };
    const ValueId tokens = b.scale(over_batch(b.call("sum", {s.real()})), static_cast<double>(load.layers));
    const ValueId share = b.div(over_batch(load.counts), tokens), mean = b.div(over_batch(load.probabilities), tokens);
    return b.scale(b.call("sum", {b.mul(share, mean)}), static_cast<double>(experts));
}

Status check_mixture(const Mixture& mixture, const char* experts_key) {
    if (mixture.chosen >= 1 && mixture.chosen <= mixture.experts) return ok();
    return fail(Code::E_CONFIG, "config.json: num_experts_per_tok {} must be between 1 and {} {}", mixture.chosen, experts_key,
                mixture.experts);
}

}  // namespace ds::models
