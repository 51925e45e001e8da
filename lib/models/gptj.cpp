// GPT-J (Wang and Komatsuzaki 2021), as transformers' GPTJForCausalLM and GPTJModel: attention and MLP side by side behind one norm, rotary
// pairs of neighbours in a part of each head.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> gptj(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    m->tensors = {.root = "transformer",
                  .words = "wte",
                  .layers = "h",
                  .norm = "ln_f",
                  .attention_norm = "ln_1",
                  .mlp_norm = "ln_1",
                  .query = "attn.q_proj",
                  .key = "attn.k_proj",
                  .value = "attn.v_proj",
                  .attention_out = "attn.out_proj",
                  .up = "fc_in",
                  .down = "fc_out"};
    m->norms = Decoder::Norms::layer;
    m->mlp_kind = Decoder::Mlp::plain;
    m->parallel = m->mlp_bias = m->head_bias = m->interleaved = true;
    m->keeps_padding = false;
    m->width = f.integer("n_embd", f.integer("hidden_size", 4096));
    m->layers = f.integer("n_layer", f.integer("num_hidden_layers", 28));
    m->heads = m->kv_heads = f.integer("n_head", f.integer("num_attention_heads", 16));
    m->inner = f.integer("n_inner", 4 * m->width);
    m->vocabulary = f.integer("vocab_size", 50400);
    m->eps = f.number("layer_norm_epsilon", 1e-5);
    m->embedding_dropout = f.number("embd_pdrop", 0.0);
    m->attention_dropout = f.number("attn_pdrop", 0.0);
    m->attention_out_dropout = m->mlp_dropout = f.number("resid_pdrop", 0.0);
    m->range = f.number("initializer_range", 0.02);
    m->tied = f.boolean("tie_word_embeddings", false);
    read_padding(*m, f);
    DS_TRY(m->activation, activation_named(f.text("activation_function", "gelu_new"), "activation_function"));
    const int64_t positions = f.integer("n_positions", f.integer("max_position_embeddings", 2048)), rotated = f.integer("rotary_dim", 64);
    DS_CHECK(f.status());
    DS_CHECK(check_heads(m->width, m->heads, "n_embd", "n_head"));
    m->head_dim = m->width / m->heads;
    if (rotated > m->head_dim) return fail(Code::E_CONFIG, "config.json: rotary_dim {} is more than a head has, {}", rotated, m->head_dim);
    // The half keeps rounding from losing a column.
    const RopeDefaults rope{.partial = (static_cast<double>(rotated) + 0.5) / static_cast<double>(m->head_dim)};
    DS_TRY(m->angles, read_rope(*m, config, m->head_dim, positions, rope));
    m->max_positions = positions;  // transformers has a table of their angles
    DS_CHECK(finish_decoder(*m, f, task));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
