// Decoders with rotary attention, of GPT-NeoX's (Black et al. 2022, arXiv 2204.06745) and of LLaMA's kind (Touvron et al. 2023, arXiv
// 2302.13971). What the families differ in are fields here; a family reads them from its config.json.
#pragma once

#include "models/causal.h"
#include "models/mixture.h"
#include "models/rope.h"

namespace ds::models {

// What a family calls its tensors: LLaMA's names, where it says nothing.
struct DecoderNames {
    std::string root = "model", words = "embed_tokens", layers = "layers", norm = "norm", head = "lm_head";
    // Norms of what a layer's two sublayers take, and of what they give. Without a name there is none.
    std::string attention_norm = "input_layernorm", attention_out_norm, mlp_norm = "post_attention_layernorm", mlp_out_norm;
    std::string query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj", attention_out = "self_attn.o_proj";
    std::string qkv = "self_attn.qkv_proj";  // where those three are one weight
    std::string query_norm = "self_attn.q_norm", key_norm = "self_attn.k_norm";
    std::string mlp = "mlp", gate_up = "gate_up_proj", up = "up_proj", down = "down_proj";  // gate_up: where gate and up are one weight
};

struct Decoder : CausalModel {
    void build(Builder& b, TokenStream& s) const override;

    DecoderNames tensors;
    int64_t width = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, inner = 0;
    double eps = 1e-6, embedding_dropout = 0, attention_dropout = 0, attention_out_dropout = 0, mlp_dropout = 0, range = 0.02;
    bool qkv_bias = false, out_bias = false, mlp_bias = false, head_bias = false, tied = false;
    bool keeps_padding = true;                                                   // the row of pad_id in the table of words never changes
    bool parallel = false;                                                       // attention and MLP both take what the layer takes
    enum class Norms { rms, rms_plus_one, layer } norms = Norms::rms;            // rms_plus_one: times 1 + weight
    enum class HeadNorms { none, each, together } head_norms = HeadNorms::none;  // of queries and keys: each head, or all of a token's
    // One weight for queries, keys and values: each after the other, or those of one head after those of another.
    enum class Projections { apart, fused, fused_by_head } projections = Projections::apart;
    enum class Mlp { gated, gated_fused, plain } mlp_kind = Mlp::gated;
    double embedding_scale = 1, attention_scale = 0, residual_scale = 1, logit_scale = 1;  // attention_scale 0: 1 / sqrt(head_dim)
    std::vector<int64_t> windows;  // of each layer; 0: full attention; empty: of all layers
    std::optional<Mixture> mixture;
    std::set<int64_t> plain_layers;  // that have an MLP all the same
    Activation activation;
    RopeAngles angles;
    std::optional<RopeAngles> window_angles;  // of layers with a window
    bool interleaved = false;                 // rotary pairs are neighbours

private:
    int64_t window(int64_t layer) const { return windows.empty() ? 0 : windows[static_cast<size_t>(layer)]; }
    ValueId layer(Blocks& m, TokenStream& s, ValueId x, ValueId turns, const Scope& w, int64_t i, Mixture::Load& load) const;
    ValueId attention(Blocks& m, TokenStream& s, ValueId h, ValueId turns, const Scope& w, int64_t window_size) const;
    std::vector<ValueId> queries_keys_values(Blocks& m, TokenStream& s, ValueId h, const Scope& w) const;
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
    double eps = 1e-6, range = 0.02;
    bool tied = false;
    std::string activation = "silu";
    RopeDefaults rope;
    const char* eps_key = "rms_norm_eps";
};

// The fields that most families share, and finish_decoder.
Status read_decoder(Decoder& m, Fields& f, Task task, const DecoderDefaults& defaults);
// Checks, and what follows from the fields.
Status finish_decoder(Decoder& m, Fields& f, Task task);

// Which layers look back only over `window` places: those that layer_types lists, where the family reads it and it is there; else those of
// the rule.
Result<std::vector<int64_t>> read_windows(Fields& f, int64_t layers, int64_t window, bool listed, const std::function<bool(int64_t)>& rule);

}  // namespace ds::models
