"""Random config.json of every family, as small as can be: what transformers reads there, one function a family.

A function gives the class of the config, its settings, and the heads to choose from. `unbuilt` is what libdsrt may refuse by name.
"""
import json

ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_python_tanh", "quick_gelu", "relu", "relu2", "relu6", "silu", "swish", "tanh", "sigmoid",
               "leaky_relu", "linear", "mish", "gelu_10", "laplace"]
UNBUILT_ACTIVATIONS = {"relu6", "sigmoid", "leaky_relu", "linear", "mish", "gelu_10", "laplace"}


def activation(r, usual):
    return usual if r.random() < 0.5 else r.choice(ACTIVATIONS if r.random() < 0.1 else [name for name in ACTIVATIONS if name not in UNBUILT_ACTIVATIONS])


def some(r, settings, share=0.5):
    """Some of these, which may also keep their defaults."""
    return {key: value for key, value in settings.items() if r.random() < share}


def rope(r, head_dim, positions, partial=None):
    """rope_parameters as transformers 5 writes them."""
    kind = r.choice(["default", "default", "linear", "dynamic", "yarn", "llama3", "longrope"])
    p = {"rope_type": kind, "rope_theta": r.choice([10000.0, 500000.0, 1000000, 123.5])}
    if partial is not None:
        p["partial_rotary_factor"] = partial
    rotated = int(head_dim * (1 if partial is None else partial))
    if kind in ("linear", "dynamic", "yarn", "llama3"):
        p["factor"] = r.choice([1.0, 2.0, 3.7, 8])
    if kind == "llama3":
        p.update(low_freq_factor=r.choice([1.0, 0.5]), high_freq_factor=r.choice([4.0, 2.5]), **some(r, dict(original_max_position_embeddings=r.choice([8, 16, 64])), 0.8))
    if kind == "yarn":
        p.update(some(r, dict(original_max_position_embeddings=r.choice([8, 16, 64])), 0.8), **some(r, dict(attention_factor=1.3, beta_fast=16, beta_slow=2, truncate=False), 0.3))
        if r.random() < 0.3:
            p.update(mscale=0.7, mscale_all_dim=1.2)
    if kind == "longrope":
        p.update(original_max_position_embeddings=r.choice([positions, positions // 2]), short_factor=[round(r.uniform(1, 2), 2) for _ in range((rotated + 1) // 2)],
                 long_factor=[round(r.uniform(2, 9), 2) for _ in range((rotated + 1) // 2)], **some(r, dict(attention_factor=1.2, factor=4.0), 0.3))
    return p


def decoder(r):
    """Llama's fields, in which its kin agree."""
    kv = r.choice([1, 2, 3])
    heads = kv * r.choice([1, 2, 4])
    head_dim = r.choice([4, 8, 12, 16])
    positions = r.choice([24, 40, 64])
    c = dict(vocab_size=r.randint(37, 101), hidden_size=heads * head_dim, num_hidden_layers=r.randint(1, 3), num_attention_heads=heads, num_key_value_heads=kv,
             intermediate_size=r.choice([20, 44, 64]), max_position_embeddings=positions, hidden_act=activation(r, "silu"), rms_norm_eps=r.choice([1e-5, 1e-6, 1e-3]),
             tie_word_embeddings=r.random() < 0.5, rope_parameters=rope(r, head_dim, positions), initializer_range=0.2)
    c.update(some(r, dict(pad_token_id=r.randint(0, 30)), 0.3))
    return c, head_dim


def heads_of(r, c, name, words="ForCausalLM", others=("Sequence", "Token")):
    """One head of a decoder-only family, and what else it needs."""
    head = r.choice([words, words, words, "Model", *[f"For{kind}Classification" for kind in others]])
    if "Classification" in head:
        row_labels(r, c, head)
        c.setdefault("pad_token_id", r.choice([None, 3]))
        c["classifier_dropout"] = 0.0
    return [name + head]


def row_labels(r, c, head):
    c["num_labels"] = r.choice([1, 2, 3, 5] if "Sequence" in head else [2, 5])
    if "Sequence" in head:
        c.update(some(r, dict(problem_type=r.choice(["regression", "single_label_classification", "multi_label_classification"] if c["num_labels"] > 1 else ["regression"]))))


def other_head_dim(r, c, head_dim):
    """head_dim that is not hidden_size / heads."""
    if r.random() < 0.5:
        size = r.choice([8, 16])
        c.update(head_dim=size, rope_parameters=rope(r, size, c["max_position_embeddings"]))
    return c


def llama(r):
    c, size = decoder(r)
    other_head_dim(r, c, size).update(some(r, dict(attention_bias=True, mlp_bias=True)))
    return "LlamaConfig", c, heads_of(r, c, "Llama")


def mistral(r):
    c, size = decoder(r)
    other_head_dim(r, c, size).update(some(r, dict(sliding_window=r.choice([None, 1, 3, 7, 100]))))
    return "MistralConfig", c, heads_of(r, c, "Mistral")


def windows(r, c):
    if r.random() < 0.6:
        c.update(use_sliding_window=True, sliding_window=r.choice([1, 2, 5, 100]), max_window_layers=r.choice([0, 1, 2, 28]))
    elif r.random() < 0.5:
        c.update(use_sliding_window=False, sliding_window=3, max_window_layers=0)
    return c


def qwen2(r):
    c, _ = decoder(r)
    return "Qwen2Config", windows(r, c), heads_of(r, c, "Qwen2")


def qwen3(r):
    c, size = decoder(r)
    c.update(head_dim=size, **some(r, dict(attention_bias=True)))
    return "Qwen3Config", windows(r, other_head_dim(r, c, size)), heads_of(r, c, "Qwen3")


def granite(r):
    c, size = decoder(r)
    c.update(some(r, dict(attention_bias=True, mlp_bias=True, embedding_multiplier=r.choice([12, 0.5]), residual_multiplier=0.22, logits_scaling=r.choice([8, 2.5]))))
    c["attention_multiplier"] = r.choice([0.3, 1 / 16])  # 1, the default, makes softmax as good as hard here, and rounding large
    return "GraniteConfig", c, heads_of(r, c, "Granite", others=())


def gemma(r):
    c, size = decoder(r)
    c.update(head_dim=size, hidden_act=activation(r, "gelu_pytorch_tanh"), pad_token_id=r.choice([None, 0, 9]))
    other_head_dim(r, c, size).update(some(r, dict(attention_bias=True)))
    return "GemmaConfig", c, heads_of(r, c, "Gemma")


def phi3(r):
    c, size = decoder(r)
    p = rope(r, size, c["max_position_embeddings"], r.choice([0.5, 1.0]))
    if p["rope_type"] not in ("default", "longrope"):
        p = {key: p[key] for key in ("rope_theta", "partial_rotary_factor")} | {"rope_type": "default"}
    if p["rope_type"] == "longrope":
        c["original_max_position_embeddings"] = p["original_max_position_embeddings"]
    c.update(rope_parameters=p, pad_token_id=r.choice([None, 7]), **some(r, dict(sliding_window=r.choice([None, 1, 3, 7, 100]))))
    return "Phi3Config", c, heads_of(r, c, "Phi3")


def olmo2(r):
    c, size = decoder(r)
    c.update(pad_token_id=r.choice([None, 7]), **some(r, dict(attention_bias=True)))
    return "Olmo2Config", c, heads_of(r, c, "Olmo2", others=["Sequence"])


def experts_of(r, c):
    experts = r.choice([1, 2, 4, 5])
    c.update(num_experts=experts, num_experts_per_tok=r.randint(1, experts), moe_intermediate_size=r.choice([12, 20]))
    c.update(some(r, dict(output_router_logits=True, router_aux_loss_coef=r.choice([0.0, 0.02, 1.5]), norm_topk_prob=True, mlp_only_layers=r.choice([[], [0], [1, 5]]), decoder_sparse_step=r.choice([1, 2]))))
    return c


def qwen2_moe(r):
    c, _ = decoder(r)
    experts_of(r, c).update(shared_expert_intermediate_size=r.choice([16, 28]), **some(r, dict(qkv_bias=False)))
    return "Qwen2MoeConfig", windows(r, c), heads_of(r, c, "Qwen2Moe")


def qwen3_moe(r):
    c, size = decoder(r)
    experts_of(r, c).update(head_dim=size, **some(r, dict(attention_bias=True)))
    windows(r, c).pop("max_window_layers", None)
    return "Qwen3MoeConfig", other_head_dim(r, c, size), heads_of(r, c, "Qwen3Moe")


def mixtral(r):
    c, size = decoder(r)
    experts = r.choice([1, 2, 4, 5])
    other_head_dim(r, c, size).update(num_local_experts=experts, num_experts_per_tok=r.randint(1, experts), **some(r, dict(output_router_logits=True, sliding_window=r.choice([None, 2, 6]))))
    c.update(some(r, dict(router_aux_loss_coef=r.choice([0.0, 0.02, 1.5]), router_jitter_noise=0.0)))
    return "MixtralConfig", c, heads_of(r, c, "Mixtral")


def glm(r):
    c, _ = decoder(r)
    size, partial = r.choice([8, 12, 16]), r.choice([None, 0.5, 1.0, 0.25])
    c.update(head_dim=size, rope_parameters=rope(r, size, c["max_position_embeddings"], partial), pad_token_id=r.choice([None, 7]), **some(r, dict(attention_bias=r.random() < 0.5)))
    return "GlmConfig", c, heads_of(r, c, "Glm")


def glm4(r):
    _, c, _ = glm(r)
    return "Glm4Config", c, heads_of(r, c, "Glm4")


def gpt_neox(r):
    c, size = decoder(r)
    size = r.choice([8, 16])
    del c["num_key_value_heads"], c["rms_norm_eps"]
    c.update(hidden_size=size * c["num_attention_heads"], hidden_act=activation(r, "gelu"), layer_norm_eps=r.choice([1e-5, 1e-3]), rope_parameters=rope(r, size, c["max_position_embeddings"], r.choice([0.25, 0.5, 1.0])),
             **some(r, dict(use_parallel_residual=False, attention_bias=False)))
    return "GPTNeoXConfig", c, heads_of(r, c, "GPTNeoX")


def plain(r, c, size, share):
    """Layer norms, a plain MLP, and a part of each head that turns."""
    del c["rms_norm_eps"]
    c.update(layer_norm_eps=r.choice([1e-5, 1e-3]), hidden_act=activation(r, "gelu"), rope_parameters=rope(r, size, c["max_position_embeddings"], share))
    return c


def phi(r):
    c, size = decoder(r)
    plain(r, c, size, r.choice([0.5, 1.0])).update(some(r, dict(qk_layernorm=True)))
    return "PhiConfig", c, heads_of(r, c, "Phi")


def stablelm(r):
    c, size = decoder(r)
    plain(r, c, size, r.choice([0.25, 0.5, 1.0]) if size > 4 else 1.0).update(some(r, dict(use_qkv_bias=True, use_parallel_residual=True)))
    return "StableLmConfig", c, heads_of(r, c, "StableLm")


def starcoder2(r):
    c, size = decoder(r)
    c.update(norm_epsilon=c.pop("rms_norm_eps"), **some(r, dict(use_bias=False, sliding_window=r.choice([1, 3, 7, 100]))))
    return "Starcoder2Config", other_head_dim(r, c, size), heads_of(r, c, "Starcoder2")


def gemma3(r):
    c, size = decoder(r)
    angles = rope(r, size, c["max_position_embeddings"])
    near = {"rope_type": "default", "rope_theta": r.choice([10000.0, 77.0])}
    c.update(head_dim=size, hidden_activation=activation(r, "gelu_pytorch_tanh"), pad_token_id=r.choice([None, 0, 9]), sliding_window=r.choice([1, 3, 7, 100]), query_pre_attn_scalar=r.choice([256, size]),
             rope_parameters={"full_attention": angles, "sliding_attention": near}, layer_types=[r.choice(["full_attention", "sliding_attention"]) for _ in range(c["num_hidden_layers"])])
    del c["hidden_act"]
    c.update(some(r, dict(attention_bias=True)))
    return "Gemma3TextConfig", c, [head.replace("Gemma3Model", "Gemma3TextModel").replace("Gemma3ForSeq", "Gemma3TextForSeq") for head in heads_of(r, c, "Gemma3", others=["Sequence"])]


def gptj(r):
    heads, size = r.choice([1, 2, 4]), r.choice([8, 12, 20])
    c = dict(vocab_size=r.randint(37, 101), n_positions=r.choice([24, 40]), n_embd=heads * size, n_layer=r.randint(1, 3), n_head=heads, rotary_dim=r.choice([4, 6, 8, size]), bos_token_id=0, eos_token_id=0,
             activation_function=activation(r, "gelu_new"), initializer_range=0.2, layer_norm_epsilon=r.choice([1e-5, 1e-3]))
    c.update(some(r, dict(n_inner=r.choice([20, 50]), tie_word_embeddings=True, pad_token_id=5), 0.3))
    return "GPTJConfig", c, heads_of(r, c, "GPTJ", others=["Sequence"])


def opt(r):
    heads = r.choice([1, 2, 4])
    c = dict(vocab_size=r.randint(37, 101), hidden_size=heads * r.choice([4, 8, 12]), num_hidden_layers=r.randint(1, 3), num_attention_heads=heads, ffn_dim=r.choice([20, 50]), max_position_embeddings=r.choice([24, 40]),
             activation_function=activation(r, "relu"), init_std=0.2, dropout=0.0)
    c.update(some(r, dict(do_layer_norm_before=False, word_embed_proj_dim=r.choice([12, 20]), enable_bias=False, tie_word_embeddings=False, pad_token_id=r.choice([1, 9]), _remove_final_layer_norm=True), 0.4))
    return "OPTConfig", c, heads_of(r, c, "OPT", others=["Sequence"])


def gpt2(r):
    heads = r.choice([1, 2, 4])
    c = dict(vocab_size=r.randint(37, 101), n_positions=r.choice([24, 40]), n_embd=heads * r.choice([4, 8, 12]), n_layer=r.randint(1, 3), n_head=heads, bos_token_id=0, eos_token_id=0,
             activation_function=activation(r, "gelu_new"), initializer_range=0.2, layer_norm_epsilon=r.choice([1e-5, 1e-3]), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    c.update(some(r, dict(n_inner=r.choice([20, 50]), scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, tie_word_embeddings=False, pad_token_id=5), 0.3))
    return "GPT2Config", c, heads_of(r, c, "GPT2", "LMHeadModel")


def gpt_neo(r):
    heads, layers = r.choice([1, 2, 4]), r.choice([1, 2, 3, 4])
    kinds = [[["global"], layers], [["local"], layers]] if r.random() < 0.3 else [[["global", "local"], layers]]
    c = dict(vocab_size=r.randint(37, 101), max_position_embeddings=r.choice([24, 40]), hidden_size=heads * r.choice([4, 8, 12]), num_layers=2 * layers, num_heads=heads, bos_token_id=0, eos_token_id=0,
             attention_types=kinds, activation_function=activation(r, "gelu_new"), initializer_range=0.1, layer_norm_epsilon=r.choice([1e-5, 1e-3]))
    c.update(some(r, dict(window_size=r.choice([1, 2, 5, 30]), intermediate_size=r.choice([20, 50]), tie_word_embeddings=False, pad_token_id=5)))
    return "GPTNeoConfig", c, heads_of(r, c, "GPTNeo")


def t5(r):
    buckets = r.choice([4, 8, 32, 6])
    gate = r.choice(["", "gated-"])
    c = dict(vocab_size=r.randint(37, 101), d_model=r.choice([16, 24, 40]), d_kv=r.choice([4, 6, 8]), d_ff=r.choice([20, 50]), num_layers=r.randint(1, 3), num_heads=r.choice([1, 2, 4]),
             relative_attention_num_buckets=buckets, relative_attention_max_distance=r.choice([buckets, 20, 128]), dropout_rate=0.0, layer_norm_epsilon=r.choice([1e-6, 1e-3]),
             feed_forward_proj=gate + activation(r, "gelu" if gate else "relu"), decoder_start_token_id=r.choice([0, 3]))
    c.update(some(r, dict(num_decoder_layers=r.randint(1, 3), tie_word_embeddings=r.random() < 0.5, initializer_factor=0.5)))
    return "T5Config", c, ["T5ForConditionalGeneration", "T5ForConditionalGeneration", "T5Model"]


def mt5(r):
    _, c, _ = t5(r)
    return "MT5Config", c, ["MT5ForConditionalGeneration", "MT5ForConditionalGeneration", "MT5Model"]


def bart(r):
    unit = r.choice([8, 16, 24])
    vocabulary = r.randint(37, 101)
    c = dict(vocab_size=vocabulary, d_model=2 * unit, encoder_layers=r.randint(1, 3), decoder_layers=r.randint(1, 3), encoder_attention_heads=r.choice([1, 2, 4]), decoder_attention_heads=r.choice([1, 2, 4]),
             encoder_ffn_dim=r.choice([20, 50]), decoder_ffn_dim=r.choice([20, 50]), max_position_embeddings=r.choice([24, 40]), pad_token_id=r.choice([1, vocabulary - 1]), bos_token_id=0, eos_token_id=2,
             decoder_start_token_id=r.choice([1, 2]), dropout=0.0, activation_function=activation(r, "gelu"), init_std=0.2, forced_eos_token_id=2)
    c.update(some(r, dict(scale_embedding=True, tie_word_embeddings=False, forced_bos_token_id=0)))
    return "BartConfig", c, ["BartForConditionalGeneration", "BartForConditionalGeneration", "BartModel"]


def marian(r):
    _, c, _ = bart(r)
    c.update(some(r, dict(share_encoder_decoder_embeddings=False, decoder_vocab_size=c["vocab_size"]), 0.4))
    if not c.get("share_encoder_decoder_embeddings", True):
        c["decoder_vocab_size"] = c["vocab_size"] + r.choice([0, -4])
        c["tie_word_embeddings"] = r.random() < 0.7
        c["pad_token_id"] = 1
    return "MarianConfig", c, ["MarianMTModel", "MarianMTModel", "MarianModel"]


def bert(r):
    heads = r.choice([1, 2, 4])
    c = dict(vocab_size=r.randint(37, 101), hidden_size=heads * r.choice([4, 8, 12]), num_hidden_layers=r.randint(1, 3), num_attention_heads=heads, intermediate_size=r.choice([20, 50]),
             max_position_embeddings=r.choice([24, 40]), hidden_act=activation(r, "gelu"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2,
             layer_norm_eps=r.choice([1e-12, 1e-5]), type_vocab_size=r.choice([1, 2, 3]))
    c.update(some(r, dict(pad_token_id=r.choice([None, 0, 9]), tie_word_embeddings=False, classifier_dropout=0.0, chunk_size_feed_forward=0), 0.4))
    head = r.choice(["BertModel", "BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering"])
    if "Classification" in head:
        row_labels(r, c, head)
    return "BertConfig", c, [head]


def roberta(r, kind="Roberta"):
    _, c, (head,) = bert(r)
    c["max_position_embeddings"] += 10
    c["pad_token_id"] = r.choice([0, 1, 1, 9])
    return f"{kind}Config", c, [head.replace("Bert", kind)]


def xlm_roberta(r):
    return roberta(r, "XLMRoberta")


def camembert(r):
    return roberta(r, "Camembert")


def distilbert(r):
    _, c, (head,) = bert(r)
    other = dict(hidden_size="dim", num_hidden_layers="n_layers", num_attention_heads="n_heads", intermediate_size="hidden_dim", hidden_act="activation")
    kept = ["vocab_size", "max_position_embeddings", "initializer_range", "pad_token_id", "tie_word_embeddings", "num_labels", "problem_type"]
    c = {other.get(key, key): value for key, value in c.items() if key in other or key in kept}
    c.update(dropout=0.0, attention_dropout=0.0, qa_dropout=0.0, seq_classif_dropout=0.0, **some(r, dict(sinusoidal_pos_embds=True)))
    return "DistilBertConfig", c, [head.replace("Bert", "DistilBert")]


FAMILIES = dict(gpt2=gpt2, gpt_neo=gpt_neo, gpt_neox=gpt_neox, llama=llama, mistral=mistral, qwen2=qwen2, qwen3=qwen3, granite=granite, gemma=gemma, phi3=phi3, olmo2=olmo2, gemma3=gemma3, phi=phi, stablelm=stablelm, starcoder2=starcoder2, gptj=gptj, opt=opt,
                mixtral=mixtral, qwen2_moe=qwen2_moe, qwen3_moe=qwen3_moe, glm=glm, glm4=glm4, t5=t5, mt5=mt5, bart=bart, marian=marian, bert=bert, roberta=roberta,
                xlm_roberta=xlm_roberta, camembert=camembert, distilbert=distilbert)


# Of probabilities that only a training pass reads.
DROPOUTS = dict(gpt2=["resid_pdrop", "embd_pdrop", "attn_pdrop"], gpt_neo=["resid_dropout", "embed_dropout", "attention_dropout"], gpt_neox=["hidden_dropout", "attention_dropout"], **dict.fromkeys(["phi", "phi3"], ["resid_pdrop", "attention_dropout"]), gptj=["resid_pdrop", "embd_pdrop", "attn_pdrop"], opt=["dropout", "attention_dropout"], starcoder2=["residual_dropout", "embedding_dropout", "attention_dropout"], stablelm=["hidden_dropout", "attention_dropout"], t5=["dropout_rate"], mt5=["dropout_rate"],
                bart=["dropout", "attention_dropout", "activation_dropout"], marian=["dropout", "attention_dropout", "activation_dropout"], **dict.fromkeys(["bert", "roberta", "xlm_roberta", "camembert"], ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]),
                distilbert=["dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"])


def unbuilt(config):
    """What of a config libdsrt may refuse by name."""
    found = set()
    for key in ("hidden_act", "activation_function", "hidden_activation", "activation", "feed_forward_proj"):
        if config.get(key, "").removeprefix("gated-") in UNBUILT_ACTIVATIONS:
            found |= {key, "dense_act_fn", "hidden_act"}
    p = config.get("rope_parameters") or {}
    if {p.get("rope_type"), p.get("full_attention", {}).get("rope_type")} & {"dynamic", "longrope"}:
        found.add("rope_type")
    return found


# What transformers 4 called the same.
def spelled_as_4(config, r):
    config = json.loads(json.dumps(config))
    config["transformers_version"] = "4.44.0"
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] in ("t5", "mt5") and r.random() < 0.5:  # with a head of its own
        config["tie_word_embeddings"] = False
        config.pop("scale_decoder_outputs", None)
    p = config.pop("rope_parameters", None)
    if p is None:
        return config
    if "full_attention" in p:  # gemma3
        config.update(rope_theta=p["full_attention"].pop("rope_theta"), rope_local_base_freq=p["sliding_attention"]["rope_theta"])
        p = p["full_attention"]
        config["rope_scaling"] = None if p["rope_type"] == "default" else p
        return config
    neox = config["model_type"] == "gpt_neox"
    config["rotary_emb_base" if neox else "rope_theta"] = p.pop("rope_theta", 10000.0)
    if "partial_rotary_factor" in p:
        config["rotary_pct" if neox else "partial_rotary_factor"] = p.pop("partial_rotary_factor")
    kind = p.pop("rope_type", "default")
    config["rope_scaling"] = None if kind == "default" else {r.choice(["type", "rope_type"]): kind, **p}
    return config
