// Mixtral (Jiang et al. 2024, arXiv 2401.04088), as transformers' MixtralForCausalLM and MixtralModel: Mistral's attention, and in place of
// the MLP a few of many experts for each token. With output_router_logits the loss has the load balancing term.
#include "models/decoder.h"

namespace ds::models {

Result<std::unique_ptr<Model>> mixtral(const Json& config, Task task) {
    auto m = std::make_unique<Decoder>();
    Fields f(config);
    Mixture mixture;
    mixture.gate = "w1", mixture.up = "w3", mixture.down = "w2";
    mixture.experts = f.integer("num_local_experts", 8);
    mixture.chosen = f.integer("num_experts_per_tok", 2);
    mixture.inner = f.integer("intermediate_size", 14336);
    mixture.balance = f.boolean("output_router_logits", false) ? f.number("router_aux_loss_coef", 0.001) : 0;
    m->mixture = mixture;
    m->tensors.mlp = "block_sparse_moe";
    if (f.number("router_jitter_noise", 0.0) != 0)
        return fail(Code::E_UNSUPPORTED, "config.json: router_jitter_noise {} is not built; there is 0: the router sees tokens as they are",
                    config["router_jitter_noise"].dump());
    DS_CHECK(read_decoder(*m, f, task,
                          {.width = 4096,
                           .layers = 32,
                           .heads = 32,
                           .inner = 14336,
                           .vocabulary = 32000,
                           .kv_heads = 8,
                           .positions = 131072,
                           .eps = 1e-5,
                           .rope = {.theta = 1e6}}));
    DS_CHECK(check_mixture(mixture, "num_local_experts"));
    m->windows.assign(static_cast<size_t>(m->layers), f.integer("sliding_window", 0));
    DS_CHECK(f.status());
    return std::unique_ptr<Model>(std::move(m));
}

}  // namespace ds::models
