// Decoders of LLaMA's kind (Touvron et al. 2023, arXiv 2302.13971): rotary attention and a gated MLP, or a mixture of those, with
// root-mean-square norms. What the families differ in are fields here; a family reads them from its config.json.
#pragma once

#include "models/mixture.h"
#include "models/rope.h"

namespace ds::models {

struct Decoder : Model {
    void build(Builder& b, TokenStream& s) const override;

    int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0;
    double eps = 1e-6, attention_dropout = 0, residual_dropout = 0, range = 0.02;
    bool qkv_bias = false, out_bias = false, mlp_bias = false, tied = false;
    bool fused = false;          // one weight for queries, keys and values, and one for gate and up
    bool post_norms = false;     // what sublayers give is normalised, and not what they take
    bool shifted_gains = false;  // a norm multiplies by 1 + weight
    enum class HeadNorms { none, each, together } head_norms = HeadNorms::none;  // of queries and keys: each head, or all of a token's
    double embedding_scale = 1, attention_scale = 0, residual_scale = 1, logit_scale = 1;  // attention_scale 0: 1 / sqrt(head_dim)
    std::vector<int64_t> windows;  // of each layer; 0: full attention; empty: of all layers
    std::optional<Mixture> mixture;
    std::string mixture_scope = "mlp";
    std::set<int64_t> plain_layers;  // that have an MLP all the same
    Activation activation;
    RopeAngles angles;

private:
    ValueId block(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& layers_scope, int64_t i, Mixture::Load& load) const;
    ValueId attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w, int64_t window) const;
    ValueId mlp(Blocks& m, ValueId h, const Scope& w) const;
    ValueId norm(Blocks& m, ValueId x, const Scope& w) const;
    ValueId head_norm(Blocks& m, ValueId x, const Scope& w) const;
};

// What a config.json may leave out. Sizes that are nothing here are required.
struct DecoderDefaults {
    std::optional<int64_t> width, layers, heads, inner, vocabulary;
    std::optional<int64_t> kv_heads;  // where the field is absent; nothing, as null in the field: as heads
    std::optional<int64_t> head_dim;  // nothing: width / heads
    std::optional<int64_t> pad_id;    // where the field is absent; null in the field is none
    int64_t positions = 32768;
    double eps = 1e-6;
    bool tied = false;
    std::string activation = "silu";
    RopeDefaults rope;
};

// The fields that the families share, and the checks; heads are *ForCausalLM and *Model.
Status read_decoder(Decoder& m, Fields& f, Task task, const DecoderDefaults& defaults);

// Which layers look back only over `window` places: those that layer_types lists, where the family reads it and it is there; else those of
// the rule.
Result<std::vector<int64_t>> read_windows(Fields& f, int64_t layers, int64_t window, bool listed, const std::function<bool(int64_t)>& rule);

}  // namespace ds::models
