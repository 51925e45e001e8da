// GPT-Neo, which alternates dense and locally banded attention as GPT-3 does (Brown et al. 2020, arXiv 2005.14165; Child et al. 2019, arXiv
// 1904.10509), as transformers' GPTNeoForCausalLM and GPTNeoModel. Scores are not scaled.
#include "models/causal.h"

namespace ds::models {
namespace {

struct GptNeo : CausalModel {
    int64_t width = 2048, heads = 16, inner = 0;
    double eps = 1e-5, embed_dropout = 0, attention_dropout = 0, resid_dropout = 0, range = 0.02;
    bool tied = true;
    std::vector<int64_t> windows;  // of each layer; 0: dense
    Activation activation;

    void build(Builder& b, TokenStream& s) const override {
        Blocks m(b, range);
        const Scope root{task == Task::none ? "" : "transformer"};
        const ValueId table = m.weight(root("wte"), "weight", {vocabulary, width});
        ValueId x = b.add(b.call("embedding", {table, s.ids()}), m.embedding(s.positions(), root("wpe"), max_positions, width));
        if (s.has_types()) x = b.add(x, b.call("embedding", {table, s.types()}));
        x = m.boundary(s.dropout(x, embed_dropout));
        for (size_t i = 0; i < windows.size(); ++i) x = m.boundary(block(m, s, x, root("h")(std::to_string(i)), windows[i]));
        head(m, s, m.layernorm(x, root("ln_f"), eps), [&](ValueId rows) {
            return m.head(rows, tied ? table : m.weight(Scope{"lm_head"}, "weight", {vocabulary, width}));
        });
    }

    ValueId block(Blocks& m, TokenStream& s, ValueId x, const Scope& w, int64_t window) const {
        Builder& b = m.b;
        const Scope self = w("attn.attention");
        ValueId h = m.layernorm(x, w("ln_1"), eps);
        const ValueId q = m.linear(h, self("q_proj"), width, false), k = m.linear(h, self("k_proj"), width, false),
                      v = m.linear(h, self("v_proj"), width, false);
        h = s.attention(q, k, v, {.heads = heads, .causal = true, .window = window, .scale = 1, .dropout = attention_dropout});
        x = b.add(x, s.dropout(m.linear(h, self("out_proj"), width), resid_dropout));
        h = activation(b, m.linear(m.layernorm(x, w("ln_2"), eps), w("mlp.c_fc"), inner));
        return b.add(x, s.dropout(m.linear(h, w("mlp.c_proj"), width), resid_dropout));
    }
};

// attention_types: [[["global", "local"], 12]] is twelve times a dense and a banded layer; attention_layers names each layer and wins.
Result<std::vector<int64_t>> windows_of(Fields& f, int64_t layers) {
    const int64_t window = f.integer("window_size", 256);
    std::vector<std::string> kinds;
    const auto wrong = [&](const char* key) {
        return fail(
            Code::E_CONFIG,
            "config.json: {} must name \"global\" or \"local\" for each of {} layers, as [[[\"global\", \"local\"], {}]], but is {}", key,
            layers, layers / 2, f.json()[key].dump());
    };
    const auto append = [&](const Json& names) {
        for (const Json& name : names) kinds.push_back(name.is_string() ? name.get<std::string>() : "");
    };
    const char* key = f.has("attention_layers") ? "attention_layers" : "attention_types";
    if (f.has("attention_layers")) {
        append(f.json()["attention_layers"]);
    } else {
        const Json types = f.has("attention_types") ? f.json()["attention_types"] : Json::parse(R"([[["global","local"],12]])");
        if (!types.is_array()) return wrong(key);
        for (const Json& group : types) {
            if (!group.is_array() || group.size() != 2 || !group[0].is_array() || !group[1].is_number_unsigned() ||
                group[1].get<int64_t>() > layers)
                return wrong(key);
            for (int64_t i = 0; i < group[1].get<int64_t>(); ++i) append(group[0]);
        }
    }
    if (static_cast<int64_t>(kinds.size()) != layers)
        return fail(Code::E_CONFIG, "config.json: {} names {} layers, but num_layers is {}", key, kinds.size(), layers);
    std::vector<int64_t> windows;
    for (const std::string& kind : kinds) {
        if (kind != "global" && kind != "local") return wrong(key);
        windows.push_back(kind == "local" ? window : 0);
    }
    return windows;
}

}  // namespace

Result<std::unique_ptr<Model>> gpt_neo(const Json& config, Task task) {
    auto m = std::make_unique<GptNeo>();
    Fields f(config);
    m->width = f.integer("hidden_size", 2048);
    const int64_t layers = f.integer(f.has("num_layers") ? "num_layers" : "num_hidden_layers", 24);
    m->heads = f.integer(f.has("num_heads") ? "num_heads" : "num_attention_heads", 16);
    m->inner = f.integer("intermediate_size", 4 * m->width);
    m->vocabulary = f.integer("vocab_size", 50257);
    m->max_positions = f.integer("max_position_embeddings", 2048);
    m->eps = f.number("layer_norm_epsilon", 1e-5);
    m->embed_dropout = f.number("embed_dropout", 0.0);
    m->attention_dropout = f.number("attention_dropout", 0.0);
    m->resid_dropout = f.number("resid_dropout", 0.0);
    m->range = f.number("initializer_range", 0.02);
    m->tied = f.boolean("tie_word_embeddings", true);
    DS_TRY(m->windows, windows_of(f, layers));
    DS_TRY(m->activation, activation_named(f.text("activation_function", "gelu_new"), "activation_function"));
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m->width, m->heads, "hidden_size", "num_heads"));
    m->token_head = "classifier";
    read_padding(*m, f);
    DS_CHECK(finish_causal(*m, f, task, "transformer", "wte", "lm_head", m->tied));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
