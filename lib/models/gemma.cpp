// Gemma (Gemma Team 2024, arXiv 2403.08295), as transformers' GemmaForCausalLM and GemmaModel: LLaMA with words scaled by the root of their
// width and norms that multiply by 1 + weight.
#include <cmath>

#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> gemma(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Json read = config;
    // "gelu" meant the tanh approximation in the first folders; transformers reads it so, and has no use for hidden_activation beside it.
    if (read.value("hidden_act", Json()) == "gelu") read["hidden_act"] = "gelu_pytorch_tanh";
    Fields f(read);
    if (f.boolean("use_bidirectional_attention", false))
        return fail(Code::E_UNSUPPORTED,
                    "config.json: use_bidirectional_attention: true is not built for gemma; there is causal attention");
    m->norms = Decoder::Norms::rms_plus_one;
    m->out_bias = m->qkv_bias = f.boolean("attention_bias", false);
    DS_CHECK(read_decoder(
        *m, f, task, {.kv_heads = 16, .head_dim = 256, .pad_id = 0, .positions = 8192, .tied = true, .activation = "gelu_pytorch_tanh"}));
    m->embedding_scale = std::sqrt(static_cast<double>(m->width));
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
