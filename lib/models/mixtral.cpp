// Mixtral (Jiang et al. 2024, arXiv 2401.04088), as transformers' MixtralForCausalLM and MixtralModel: Mistral's attention, and in place of
// the MLP a few of many experts for each token. With output_router_logits the loss has the load balancing term of the Switch Transformer
// (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6), over all layers at once and over the tokens of the whole batch.
#include "models/blocks.h"
#include "models/rope.h"

namespace ds::models {
namespace {

struct Mixtral : Model {
    int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0, experts = 8, chosen = 2, window = 0;
    double eps = 1e-5, attention_dropout = 0, range = 0.02, balance = 0;  // balance: weight of the load balancing term
    bool tied = false;
    Activation activation;
    RopeAngles angles;

    // What the router did with the tokens so far, of each expert, over layers.
    struct Load {
        ValueId counts = kNone, probabilities = kNone;
    };

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        Load load;
        const Scope root{task == Task::none ? "" : "model"};
        const ValueId table = m.weight(root("embed_tokens"), "weight", {vocabulary, width});
        ValueId x = m.boundary(m.words(table, s.ids(), pad_id));
        const ValueId turns = b.call("rope_angles", {s.positions()}, angles);
        for (int64_t i = 0; i < layers; ++i) x = m.boundary(block(m, s, x, turns, root("layers")(std::to_string(i)), load));
        x = m.rmsnorm(x, root("norm"), eps);
        s.output("last_hidden_state", x);
        if (task == Task::none) return;
        s.classify_tokens(x, [&](ValueId rows) {
            return m.head(rows, tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width}));
        });
        if (load.counts != kNone && b.graph().loss != kNone)
            b.graph().loss = b.add(b.graph().loss, b.scale(imbalance(b, s, load), balance));
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w, Load& load) const {
        Builder& b = m.b;
        const Scope self = w("self_attn");
        ValueId h = m.rmsnorm(x, w("input_layernorm"), eps);
        const ValueId q = b.call("rope", {m.linear(h, self("q_proj"), heads * head_dim, false), turns}, Rope{.head_dim = head_dim});
        const ValueId k = b.call("rope", {m.linear(h, self("k_proj"), kv_heads * head_dim, false), turns}, Rope{.head_dim = head_dim});
        const ValueId v = m.linear(h, self("v_proj"), kv_heads * head_dim, false);
        h = s.attention(q, k, v, {.heads = heads, .kv_heads = kv_heads, .causal = true, .window = window, .dropout = attention_dropout});
        x = b.add(x, m.linear(h, self("o_proj"), width, false));
        return b.add(x, mixture(m, s, m.rmsnorm(x, w("post_attention_layernorm"), eps), w("block_sparse_moe"), load));
    }

    ValueId mixture(Blocks& m, TokenStream& s, ValueId h, const Scope& w, Load& load) const {
        Builder& b = m.b;
        const ValueId probabilities = b.call("softmax", {b.cast(m.linear(h, w("gate"), experts, false), DType::f32)});
        const auto best = b.call_all("top_k", {probabilities}, TopK{chosen});
        const ValueId share = b.div(best[0], b.call("sum", {best[0]}, Reduce{{1}, true}));
        const auto rows = b.call_all("expert_rows", {best[1], s.real()}, Routing{.experts = experts});
        const ValueId tokens = rows[0], ends = rows[1], places = rows[2];
        const ValueId own = b.call("embedding", {h, tokens});
        const ValueId gate = activation(b, grouped(m, own, ends, w, "w1", inner)), up = grouped(m, own, ends, w, "w3", inner);
        const ValueId y = b.call("combine", {grouped(m, b.mul(gate, up), ends, w, "w2", width), share, places});
        if (balance != 0 && s.shape().labels) {
            const ValueId sums = b.call("sum", {b.mul(probabilities, b.reshape(s.real(), {s.shape().tokens, 1}))}, Reduce{{0}});
            load.counts = load.counts == kNone ? rows[3] : b.add(load.counts, rows[3]);
            load.probabilities = load.probabilities == kNone ? sums : b.add(load.probabilities, sums);
        }
        return y;
    }

    // Each expert's rows by its own weight.
    ValueId grouped(Blocks& m, ValueId x, ValueId ends, const Scope& w, const char* name, int64_t out) const {
        std::vector<ValueId> in{x, ends};
        for (int64_t e = 0; e < experts; ++e) in.push_back(m.weight(w("experts")(std::to_string(e))(name), "weight", {out, m.width(x)}));
        return m.b.call("grouped_matmul", in, Matmul{.transpose_b = true}, w(name).prefix);
    }

    // experts * sum over experts of (share of choices) * (mean probability): k where the load is even, more where it is not.
    ValueId imbalance(Builder& b, TokenStream& s, const Load& load) const {
        const auto over_batch = [&](ValueId x) { return b.call("batch_sum", {x}); };
        const ValueId tokens = b.scale(over_batch(b.call("sum", {s.real()})), static_cast<double>(layers));
        const ValueId share = b.div(over_batch(load.counts), tokens), mean = b.div(over_batch(load.probabilities), tokens);
        return b.scale(b.call("sum", {b.mul(share, mean)}), static_cast<double>(experts));
    }
};

}  // namespace

Result<std::unique_ptr<Model>> mixtral(const Json& config, Task task) {
    auto m = std::make_unique<Mixtral>();
    Fields f(config);
    DS_CHECK(only_causal(f, task));
    m->width = f.integer("hidden_size", 4096);
    m->layers = f.integer("num_hidden_layers", 32);
    m->heads = f.integer("num_attention_heads", 32);
    m->kv_heads = f.integer("num_key_value_heads", config.contains("num_key_value_heads") ? m->heads : 8);
    m->head_dim = f.integer("head_dim", m->width / std::max<int64_t>(m->heads, 1));
    m->inner = f.integer("intermediate_size", 14336);
    m->vocabulary = f.integer("vocab_size", 32000);
    m->experts = f.integer("num_local_experts", 8);
    m->chosen = f.integer("num_experts_per_tok", 2);
    m->window = f.integer("sliding_window", 0);
    m->eps = f.number("rms_norm_eps", 1e-5);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->range = f.number("initializer_range", 0.02);
    m->balance = f.boolean("output_router_logits", false) ? f.number("router_aux_loss_coef", 0.001) : 0;
    m->tied = f.boolean("tie_word_embeddings", false);
    read_padding(*m, f);
    DS_TRY(m->activation, activation_named(f.text("hidden_act", "silu"), "hidden_act"));
    if (f.number("router_jitter_noise", 0.0) != 0)
        return fail(Code::E_UNSUPPORTED, "config.json: router_jitter_noise {} is not built; there is 0: the router sees tokens as they are",
                    config["router_jitter_noise"].dump());
    const int64_t positions = f.integer("max_position_embeddings", 131072);
    DS_CHECK(f.status());
    if (m->heads == 0 || m->kv_heads == 0 || m->heads % m->kv_heads)
        return fail(Code::E_CONFIG, "config.json: num_attention_heads {} is not a multiple of num_key_value_heads {}", m->heads,
                    m->kv_heads);
    if (m->chosen < 1 || m->chosen > m->experts)
        return fail(Code::E_CONFIG, "config.json: num_experts_per_tok {} must be between 1 and num_local_experts {}", m->chosen,
                    m->experts);
    DS_TRY(m->angles, read_rope(*m, config, m->head_dim, positions, {.theta = 1e6}));
    m->names.base_prefix = "model.";
    tie(*m, m->tied && task != Task::none, "model.embed_tokens.weight", {"lm_head.weight"});
    m->couples_rows = m->balance != 0;
    m->one_piece = true;
    decoder_outputs(*m, task);
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
