"""Folders that go from transformers to libdsrt and back.

For every family and head: transformers writes a folder with random weights (tied and untied, f32, bf16 and f16, one file and shards). libdsrt loads
it; loss and outputs of a batch with padding agree. libdsrt trains a step and exports (f32, bf16, shards); transformers loads that folder without
a missing or unexpected tensor, and again loss and outputs agree. transformers computes in f64. Prints "N passed, N failed".
"""
import json
import logging
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

import dsrt
from tally import Tally

logging.getLogger("transformers").setLevel(logging.ERROR)
BOUND = 1e-5
SMALL = dict(vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, max_position_embeddings=48)
LLAMA = dict(SMALL, num_key_value_heads=2)
GPT2 = dict(vocab_size=101, n_positions=48, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
BERT = dict(SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
DISTILBERT = dict(vocab_size=101, dim=48, n_layers=2, n_heads=4, hidden_dim=80, max_position_embeddings=48, dropout=0.0, attention_dropout=0.0, qa_dropout=0.0, seq_classif_dropout=0.0)
NEO = dict(vocab_size=101, hidden_size=48, num_layers=2, num_heads=4, window_size=4, max_position_embeddings=48, bos_token_id=0, eos_token_id=0)
T5 = dict(vocab_size=101, d_model=48, d_kv=10, d_ff=80, num_layers=2, num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=12, dropout_rate=0.0, decoder_start_token_id=0)
BART = dict(vocab_size=101, d_model=48, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=80, decoder_ffn_dim=80,
            max_position_embeddings=48, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=1, dropout=0.0)
HALF = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)
OPT = dict(vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, ffn_dim=80, max_position_embeddings=48, dropout=0.0)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
NO_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
# name, config class, model class, settings, how transformers saves (dtype, shard size), how libdsrt exports
CASES = [
    ("gpt2", "GPT2Config", "GPT2LMHeadModel", dict(GPT2, **NO_DROPOUT), ("float32", None), {}),
    ("gpt2-untied", "GPT2Config", "GPT2LMHeadModel", dict(GPT2, tie_word_embeddings=False, **NO_DROPOUT), ("bfloat16", None), {"dtype": "bf16"}),
    ("gpt2-shards", "GPT2Config", "GPT2LMHeadModel", dict(GPT2, n_inner=70, activation_function="gelu", **NO_DROPOUT), ("float32", "60KB"), {"max_shard_bytes": 60000}),
    ("llama", "LlamaConfig", "LlamaForCausalLM", dict(LLAMA, tie_word_embeddings=False), ("float32", None), {}),
    ("llama-tied", "LlamaConfig", "LlamaForCausalLM", dict(LLAMA, tie_word_embeddings=True, attention_bias=True, mlp_bias=True), ("float16", None), {"dtype": "f16"}),
    ("llama-shards", "LlamaConfig", "LlamaForCausalLM", dict(LLAMA, head_dim=16, rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
     "high_freq_factor": 4.0, "original_max_position_embeddings": 16}), ("bfloat16", "40KB"), {"dtype": "bf16", "max_shard_bytes": 40000}),
    ("mistral", "MistralConfig", "MistralForCausalLM", dict(LLAMA, sliding_window=5), ("float32", None), {}),
    ("mistral-tied", "MistralConfig", "MistralForCausalLM", dict(LLAMA, sliding_window=None, tie_word_embeddings=True), ("float32", "50KB"), {"dtype": "bf16"}),
    ("qwen2", "Qwen2Config", "Qwen2ForCausalLM", dict(LLAMA, tie_word_embeddings=False), ("float32", None), {}),
    ("qwen2-tied", "Qwen2Config", "Qwen2ForCausalLM", dict(LLAMA, tie_word_embeddings=True), ("bfloat16", None), {"max_shard_bytes": 30000}),
    ("qwen3", "Qwen3Config", "Qwen3ForCausalLM", dict(LLAMA, head_dim=16, tie_word_embeddings=False), ("float32", None), {"dtype": "f16"}),
    ("qwen3-tied", "Qwen3Config", "Qwen3ForCausalLM", dict(LLAMA, head_dim=12, tie_word_embeddings=True), ("float32", None), {}),
    ("granite", "GraniteConfig", "GraniteForCausalLM", dict(LLAMA, embedding_multiplier=12.0, attention_multiplier=0.2, residual_multiplier=0.22, logits_scaling=8.0), ("float32", None), {}),
    ("granite-tied", "GraniteConfig", "GraniteForCausalLM", dict(LLAMA, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, attention_multiplier=0.1), ("bfloat16", None), {"dtype": "bf16"}),
    ("gemma", "GemmaConfig", "GemmaForCausalLM", dict(LLAMA, head_dim=16), ("float32", None), {}),
    ("gemma-untied", "GemmaConfig", "GemmaForCausalLM", dict(LLAMA, head_dim=12, tie_word_embeddings=False, attention_bias=True), ("bfloat16", "40KB"), {"dtype": "bf16", "max_shard_bytes": 40000}),
    ("phi3", "Phi3Config", "Phi3ForCausalLM", dict(LLAMA, pad_token_id=0, sliding_window=5), ("float32", None), {}),
    ("phi3-part-of-heads", "Phi3Config", "Phi3ForCausalLM", dict(LLAMA, pad_token_id=None, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}),
     ("float16", None), {"dtype": "f16"}),
    ("olmo2", "Olmo2Config", "Olmo2ForCausalLM", dict(LLAMA, attention_bias=True), ("float32", None), {}),
    ("olmo2-tied", "Olmo2Config", "Olmo2ForCausalLM", dict(LLAMA, tie_word_embeddings=True), ("bfloat16", "40KB"), {"max_shard_bytes": 30000}),
    ("gemma3", "Gemma3TextConfig", "Gemma3ForCausalLM", dict(LLAMA, head_dim=16, sliding_window=4, query_pre_attn_scalar=20, layer_types=["sliding_attention", "full_attention"]), ("float32", None), {}),
    ("gemma3-untied", "Gemma3TextConfig", "Gemma3ForCausalLM", dict(LLAMA, head_dim=12, tie_word_embeddings=False, attention_bias=True, rope_parameters={"full_attention": {
     "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0}}), ("bfloat16", "40KB"), {"dtype": "bf16", "max_shard_bytes": 40000}),
    ("phi", "PhiConfig", "PhiForCausalLM", LLAMA, ("float32", None), {}),
    ("phi-normed-heads", "PhiConfig", "PhiForCausalLM", dict(LLAMA, qk_layernorm=True, tie_word_embeddings=True), ("float16", None), {"dtype": "f16"}),
    ("stablelm", "StableLmConfig", "StableLmForCausalLM", dict(LLAMA, use_qkv_bias=True, rope_parameters=HALF), ("float32", None), {}),
    ("stablelm-side-by-side", "StableLmConfig", "StableLmForCausalLM", dict(LLAMA, use_parallel_residual=True, tie_word_embeddings=True, rope_parameters=HALF), ("bfloat16", "40KB"), {"max_shard_bytes": 30000}),
    ("starcoder2", "Starcoder2Config", "Starcoder2ForCausalLM", dict(LLAMA, sliding_window=5), ("float32", None), {}),
    ("starcoder2-untied", "Starcoder2Config", "Starcoder2ForCausalLM", dict(LLAMA, use_bias=False, tie_word_embeddings=False), ("bfloat16", None), {"dtype": "bf16"}),
    ("gptj", "GPTJConfig", "GPTJForCausalLM", dict(GPT2, rotary_dim=6), ("float32", None), {}),
    ("gptj-tied", "GPTJConfig", "GPTJForCausalLM", dict(GPT2, rotary_dim=12, n_inner=70, tie_word_embeddings=True), ("float16", "60KB"), {"max_shard_bytes": 60000}),
    ("opt", "OPTConfig", "OPTForCausalLM", OPT, ("float32", None), {}),
    ("opt-norms-behind", "OPTConfig", "OPTForCausalLM", dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=20, tie_word_embeddings=False), ("float16", "60KB"), {"dtype": "f16"}),
    ("gpt2-classification", "GPT2Config", "GPT2ForSequenceClassification", dict(GPT2, num_labels=5, pad_token_id=0, **NO_DROPOUT), ("float32", None), {}),
    ("gpt2-tokens", "GPT2Config", "GPT2ForTokenClassification", dict(GPT2, num_labels=7, classifier_dropout=0.0, **NO_DROPOUT), ("float32", None), {"dtype": "bf16"}),
    ("llama-reward", "LlamaConfig", "LlamaForSequenceClassification", dict(LLAMA, num_labels=1, pad_token_id=0), ("bfloat16", None), {}),
    ("mixtral-classification", "MixtralConfig", "MixtralForSequenceClassification", dict(LLAMA, num_local_experts=3, num_labels=3, pad_token_id=0, output_router_logits=True), ("float32", None), {}),
    ("qwen3-tokens", "Qwen3Config", "Qwen3ForTokenClassification", dict(LLAMA, head_dim=16, num_labels=7, classifier_dropout=0.0), ("float32", "60KB"), {"max_shard_bytes": 50000}),
    ("opt-classification", "OPTConfig", "OPTForSequenceClassification", dict(OPT, num_labels=5, pad_token_id=0), ("float32", None), {"dtype": "f16"}),
    ("gpt-neox", "GPTNeoXConfig", "GPTNeoXForCausalLM", SMALL, ("float32", None), {}),
    ("gpt-neox-one-after-the-other", "GPTNeoXConfig", "GPTNeoXForCausalLM", dict(SMALL, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new", rope_parameters={
     "rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 1.0}), ("bfloat16", "40KB"), {"dtype": "bf16", "max_shard_bytes": 40000}),
    ("gpt-neox-tied", "GPTNeoXConfig", "GPTNeoXForCausalLM", dict(SMALL, tie_word_embeddings=True, rotary_pct=0.5, rotary_emb_base=3000), ("float32", None), {}),
    ("glm", "GlmConfig", "GlmForCausalLM", dict(LLAMA, head_dim=16, pad_token_id=None), ("float32", None), {}),
    ("glm-one-key-head", "GlmConfig", "GlmForCausalLM", dict(LLAMA, num_key_value_heads=1, head_dim=12, attention_bias=False, pad_token_id=None, tie_word_embeddings=True,
     rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 1.0}), ("float16", None), {"dtype": "f16"}),
    ("glm4", "Glm4Config", "Glm4ForCausalLM", dict(LLAMA, head_dim=16, attention_bias=True, pad_token_id=None), ("float32", "40KB"), {"max_shard_bytes": 40000}),
    ("gpt-neo", "GPTNeoConfig", "GPTNeoForCausalLM", dict(NEO, attention_types=[[["global", "local"], 1]]), ("float32", None), {}),
    ("gpt-neo-untied", "GPTNeoConfig", "GPTNeoForCausalLM", dict(NEO, attention_types=[[["local"], 1], [["global"], 1]], tie_word_embeddings=False, intermediate_size=70),
     ("bfloat16", None), {"dtype": "bf16"}),
    ("mixtral", "MixtralConfig", "MixtralForCausalLM", dict(LLAMA, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.5), ("float32", None), {}),
    ("mixtral-window", "MixtralConfig", "MixtralForCausalLM", dict(LLAMA, num_local_experts=3, num_experts_per_tok=1, sliding_window=4, tie_word_embeddings=True, head_dim=16),
     ("bfloat16", "60KB"), {"dtype": "bf16", "max_shard_bytes": 60000}),
    ("qwen2-moe", "Qwen2MoeConfig", "Qwen2MoeForCausalLM", dict(LLAMA, **EXPERTS, shared_expert_intermediate_size=28, output_router_logits=True, router_aux_loss_coef=0.5), ("float32", None), {}),
    ("qwen2-moe-some-plain", "Qwen2MoeConfig", "Qwen2MoeForCausalLM", dict(LLAMA, **EXPERTS, shared_expert_intermediate_size=36, mlp_only_layers=[0], norm_topk_prob=True, qkv_bias=False, tie_word_embeddings=True),
     ("bfloat16", "60KB"), {"dtype": "bf16", "max_shard_bytes": 60000}),
    ("qwen3-moe", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", dict(LLAMA, **EXPERTS, head_dim=16, norm_topk_prob=True, output_router_logits=True, router_aux_loss_coef=0.5), ("float32", None), {}),
    ("qwen3-moe-every-other", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", dict(LLAMA, **EXPERTS, head_dim=12, decoder_sparse_step=2, attention_bias=True, tie_word_embeddings=True), ("float16", None), {"dtype": "f16"}),
    ("t5", "T5Config", "T5ForConditionalGeneration", T5, ("float32", None), {}),
    ("t5-gated", "T5Config", "T5ForConditionalGeneration", dict(T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=1), ("bfloat16", "60KB"), {"max_shard_bytes": 60000}),
    ("t5-body", "T5Config", "T5Model", dict(T5, feed_forward_proj="gated-silu", relative_attention_num_buckets=32, relative_attention_max_distance=128), ("float32", None), {}),
    ("mt5", "MT5Config", "MT5ForConditionalGeneration", T5, ("float32", None), {"dtype": "f16"}),
    ("bart", "BartConfig", "BartForConditionalGeneration", BART, ("float32", None), {}),
    ("bart-untied", "BartConfig", "BartForConditionalGeneration", dict(BART, tie_word_embeddings=False, scale_embedding=True, activation_function="relu", decoder_layers=1, decoder_ffn_dim=60,
     decoder_attention_heads=2), ("float16", "60KB"), {"dtype": "f16"}),
    ("bart-body", "BartConfig", "BartModel", BART, ("float32", None), {}),
    ("marian", "MarianConfig", "MarianMTModel", dict(BART, scale_embedding=True, activation_function="swish"), ("float32", None), {}),
    ("marian-two-vocabularies", "MarianConfig", "MarianMTModel", dict(BART, share_encoder_decoder_embeddings=False, decoder_vocab_size=101, vocab_size=120), ("float32", None), {"dtype": "bf16"}),
    ("marian-untied", "MarianConfig", "MarianMTModel", dict(BART, tie_word_embeddings=False), ("float32", None), {}),
    ("bert", "BertConfig", "BertModel", BERT, ("float32", None), {}),
    ("bert-masked-lm", "BertConfig", "BertForMaskedLM", BERT, ("float32", None), {"dtype": "bf16"}),
    ("bert-masked-lm-untied", "BertConfig", "BertForMaskedLM", dict(BERT, tie_word_embeddings=False), ("float32", "60KB"), {"max_shard_bytes": 50000}),
    ("bert-classification", "BertConfig", "BertForSequenceClassification", dict(BERT, num_labels=5), ("float16", None), {}),
    ("bert-tokens", "BertConfig", "BertForTokenClassification", dict(BERT, num_labels=7), ("float32", None), {"max_shard_bytes": 50000}),
    ("bert-answers", "BertConfig", "BertForQuestionAnswering", BERT, ("bfloat16", None), {"dtype": "f16"}),
    ("roberta", "RobertaConfig", "RobertaModel", BERT, ("float32", None), {}),
    ("roberta-masked-lm", "RobertaConfig", "RobertaForMaskedLM", dict(BERT, hidden_act="gelu_new"), ("float32", None), {"dtype": "bf16"}),
    ("roberta-masked-lm-untied", "RobertaConfig", "RobertaForMaskedLM", dict(BERT, tie_word_embeddings=False, pad_token_id=0), ("bfloat16", "60KB"), {"max_shard_bytes": 50000}),
    ("xlm-roberta-classification", "XLMRobertaConfig", "XLMRobertaForSequenceClassification", dict(BERT, num_labels=5, type_vocab_size=1), ("float16", None), {}),
    ("camembert-tokens", "CamembertConfig", "CamembertForTokenClassification", dict(BERT, num_labels=7), ("float32", None), {"max_shard_bytes": 50000}),
    ("roberta-answers", "RobertaConfig", "RobertaForQuestionAnswering", BERT, ("bfloat16", None), {"dtype": "f16"}),
    ("distilbert", "DistilBertConfig", "DistilBertModel", DISTILBERT, ("float32", None), {}),
    ("distilbert-masked-lm", "DistilBertConfig", "DistilBertForMaskedLM", DISTILBERT, ("float32", None), {"dtype": "bf16"}),
    ("distilbert-masked-lm-untied", "DistilBertConfig", "DistilBertForMaskedLM", dict(DISTILBERT, tie_word_embeddings=False, activation="relu"), ("float16", "60KB"), {"max_shard_bytes": 50000}),
    ("distilbert-classification", "DistilBertConfig", "DistilBertForSequenceClassification", dict(DISTILBERT, num_labels=5), ("float32", None), {}),
    ("distilbert-tokens", "DistilBertConfig", "DistilBertForTokenClassification", dict(DISTILBERT, num_labels=7, sinusoidal_pos_embds=True), ("bfloat16", None), {}),
    ("distilbert-answers", "DistilBertConfig", "DistilBertForQuestionAnswering", DISTILBERT, ("float32", None), {"dtype": "f16"}),
]


BODIES = {"BertModel", "RobertaModel", "DistilBertModel", "T5Model", "BartModel"}  # that are asked for states, and not for a loss


def batch_for(model, labels, seed):
    """Rows of 11, 7 and 4 tokens."""
    random = np.random.default_rng(seed)
    ids = random.integers(1, 101, (3, 11))
    mask = np.zeros((3, 11), np.int64)
    for row, n in enumerate((11, 7, 4)):
        mask[row, :n] = 1
    batch = {"input_ids": ids * mask, "attention_mask": mask}
    if model.startswith("Bert"):
        batch["token_type_ids"] = (np.arange(11) >= 3).astype(np.int64) * mask
    if "ConditionalGeneration" in model or "MTModel" in model:
        batch["labels"] = random.integers(2, 101, (3, 6))
        batch["labels"][1, 4:] = -100
    elif model in ("T5Model", "BartModel"):
        batch["decoder_input_ids"] = random.integers(1, 101, (3, 6))
    elif "SequenceClassification" in model:
        batch["labels"] = random.integers(0, labels, 3)
    elif "QuestionAnswering" in model:
        batch["start_positions"], batch["end_positions"] = random.integers(0, 4, 3), random.integers(0, 4, 3)
    elif model not in BODIES:
        targets = random.integers(0, labels, (3, 11)) if labels else ids
        batch["labels"] = np.where((mask == 1) & (random.random((3, 11)) < 0.8), targets, -100)
    return batch


def theirs(folder, model, batch):
    """Outputs and loss in f64; what did not fit in the folder."""
    plain = {"experts_implementation": "eager"} if "Mixtral" in model or "Moe" in model else {}  # the other one has no f64
    made, info = getattr(transformers, model).from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **plain)
    problems = {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
    made = made.double().eval()
    with torch.no_grad():
        out = made(**{name: torch.from_numpy(value) for name, value in batch.items()})
    values = {name: value.numpy() for name, value in out.items() if isinstance(value, torch.Tensor)}
    return values, problems


class Checks(Tally):
    worst = 0.0

    def close(self, what, ours, exact):
        error = float(np.linalg.norm(np.asarray(ours, np.float64) - exact) / max(np.linalg.norm(exact), 1e-30))
        self.worst = max(self.worst, error)
        self.case(f"{what}: relative error {error:.2e}, bound {BOUND}", error <= BOUND)


def compare(checks, name, engine, folder, model, labels, seed):
    batch = batch_for(model, labels, seed)
    exact, problems = theirs(folder, model, batch)
    checks.case(f"{name}: transformers finds {problems}", not problems)
    loss = engine.eval(dsrt.Batch(**batch), "loss" in exact)
    if "loss" in exact:
        checks.close(f"{name}: loss {loss} and {exact['loss']}", loss, exact["loss"])
    for output, value in exact.items():
        if output in ("loss", "aux_loss", "past_key_values"):
            continue
        if value.ndim == 3 and value.shape[1] == 6 and "labels" in batch:  # behind a row's last label nothing is decoded
            value = value * (batch["labels"] != -100)[:, :, None]
        found = engine.output(output)
        if value.ndim >= 2 and value.shape[:2] == (3, 11) and output not in ("start_logits", "end_logits"):
            value = value * batch["attention_mask"].reshape(3, 11, *[1] * (value.ndim - 2))  # masked positions read zero
        checks.close(f"{name}: output {output}", found, value)


def run(checks, case, work):
    name, config_class, model, settings, (dtype, shard), export = case
    labels = settings.get("num_labels", 0)
    torch.manual_seed(len(name))
    made = getattr(transformers, model)(getattr(transformers, config_class)(**settings))
    with torch.no_grad():
        for parameter in made.parameters():  # transformers begins with zero biases and unit scales, which would hide mistakes
            parameter.add_(0.05 * torch.randn_like(parameter))
    made.to(getattr(torch, dtype)).save_pretrained(work / "theirs", **({"max_shard_size": shard} if shard else {}))
    checks.case(f"{name}: transformers wrote {'shards' if shard else 'one file'}", bool(shard) == (not (work / "theirs/model.safetensors").exists()))
    engine = dsrt.Engine({"model": str(work / "theirs"), "train_batch_size": 3, "threads": 1, "optimizer": {"type": "AdamW", "params": {"lr": 1e-2}}})
    compare(checks, f"{name} as transformers saved it", engine, work / "theirs", model, labels, 1)
    if model not in BODIES:
        engine.train(dsrt.Batch(**batch_for(model, labels, 2)))
    engine.export(work / "ours", export)
    checks.case(f"{name}: libdsrt wrote {'shards' if 'max_shard_bytes' in export else 'one file'}", ("max_shard_bytes" in export) == (not (work / "ours/model.safetensors").exists()))
    if "dtype" in export:  # the weights were rounded
        engine = dsrt.Engine({"model": str(work / "ours"), "threads": 1})
    compare(checks, f"{name} as libdsrt exported it", engine, work / "ours", model, labels, 3)


def block_sparse(checks, work):
    """DeepSpeed's fixed layout against transformers with the same pairs masked."""
    length, block, local = 44, 4, 3
    made = transformers.BertForMaskedLM(transformers.BertConfig(**BERT)).double().eval()
    made.float().save_pretrained(work / "dense")
    made.double()
    place = np.arange(length) // block
    windows = place[:, None] // local == place[None, :] // local
    last = np.minimum(place // local * local + local - 1, place.max())  # of each window, what all see
    seen = windows | (place == last)[None, :]
    ids = np.random.default_rng(5).integers(1, 101, (3, length))
    with torch.no_grad():
        exact = made(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(seen)[None, None].expand(3, 1, -1, -1)).logits.numpy()
    for name, settings in (("sparse", dict(block=block, num_local_blocks=local)), ("dense", dict(mode="dense"))):
        engine = dsrt.Engine({"model": str(work / "dense"), "threads": 1, "sparse_attention": settings})
        engine.eval(dsrt.Batch(input_ids=ids), False)
        if name == "sparse":
            checks.close("block-sparse attention: logits", engine.output("logits"), exact)
        else:
            checks.case("block-sparse attention: differs from dense", np.linalg.norm(engine.output("logits") - exact) > 1e-3)


def chatglm(checks, work):
    """A GLM folder under the names that ChatGLM's own code has."""
    from safetensors.numpy import load_file, save_file

    torch.manual_seed(11)
    made = transformers.GlmForCausalLM(transformers.GlmConfig(**dict(LLAMA, head_dim=16, attention_bias=True, pad_token_id=None)))
    made.save_pretrained(work / "glm")
    weights, renamed = load_file(work / "glm/model.safetensors"), {}
    names = {"model.embed_tokens.weight": "transformer.embedding.word_embeddings.weight", "model.norm.weight": "transformer.encoder.final_layernorm.weight",
             "lm_head.weight": "transformer.output_layer.weight"}
    parts = {"o_proj": "self_attention.dense", "gate_up_proj": "mlp.dense_h_to_4h", "down_proj": "mlp.dense_4h_to_h"}
    for name, value in weights.items():
        layer = (name.split(".") + ["", ""])[2]
        if name in names:
            renamed[names[name]] = value
        elif "q_proj" in name:
            renamed[f"transformer.encoder.layers.{layer}.self_attention.query_key_value.{name.split('.')[-1]}"] = np.concatenate([weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
        elif "k_proj" not in name and "v_proj" not in name:
            end = ".".join(name.split(".")[3:])
            for part, other in parts.items():
                if part in end:
                    end = f"{other}.weight"
            renamed[f"transformer.encoder.layers.{layer}.{end}"] = value
    (work / "chat").mkdir()
    save_file(renamed, work / "chat/model.safetensors")
    config = dict(model_type="chatglm", architectures=["ChatGLMModel"], hidden_size=48, num_layers=2, num_attention_heads=4, multi_query_attention=True, multi_query_group_num=2, kv_channels=16,
                  ffn_hidden_size=80, padded_vocab_size=101, layernorm_epsilon=made.config.rms_norm_eps, add_qkv_bias=True, add_bias_linear=False, rmsnorm=True, original_rope=True, post_layer_norm=True)
    (work / "chat/config.json").write_text(json.dumps(config))
    engine = dsrt.Engine({"model": str(work / "chat"), "threads": 1})
    batch = batch_for("GlmForCausalLM", 0, 4)
    exact, _ = theirs(work / "glm", "GlmForCausalLM", batch)
    checks.close("chatglm: loss", engine.eval(dsrt.Batch(**batch)), exact["loss"])


def lstm(checks, work):
    """torch's own LSTM, packed: no family of transformers is one."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(9)
    words, layers, head = torch.nn.Embedding(101, 20, padding_idx=0).double(), torch.nn.LSTM(20, 12, 2, batch_first=True, bidirectional=True).double(), torch.nn.Linear(24, 3).double()
    config = dict(model_type="lstm", architectures=["LstmForSequenceClassification"], vocab_size=101, embedding_size=20, hidden_size=12, num_layers=2, num_labels=3, pad_token_id=0)
    engine = dsrt.Engine({"model": config, "train_batch_size": 3, "threads": 1, "optimizer": {"type": "SGD", "params": {"lr": 0.1}}})
    for prefix, module in (("embedding", words), ("lstm", layers), ("classifier", head)):
        for name, value in module.named_parameters():
            engine.set_param(f"{prefix}.{name}", value.detach().numpy().astype(np.float32))
    random = np.random.default_rng(3)
    lengths = torch.tensor([11, 7, 4])
    mask = (np.arange(11)[None, :] < lengths.numpy()[:, None]).astype(np.int64)
    ids, labels = random.integers(1, 101, (3, 11)) * mask, random.integers(0, 3, 3)
    batch = dsrt.Batch(input_ids=ids, attention_mask=mask, labels=labels)
    for step in range(3):
        packed = pack_padded_sequence(words(torch.from_numpy(ids)), lengths, batch_first=True)
        states, (last, _) = layers(packed)
        logits = head(torch.cat([last[-2], last[-1]], -1))
        exact = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        checks.close(f"lstm: loss of step {step}", engine.eval(batch, True), exact.item())
        checks.close(f"lstm: logits of step {step}", engine.output("logits"), logits.detach().numpy())
        checks.close(f"lstm: states of step {step}", engine.output("last_hidden_state"), pad_packed_sequence(states, batch_first=True)[0].detach().numpy())
        parameters = [p for module in (words, layers, head) for p in module.parameters()]
        gradients = torch.autograd.grad(exact, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p -= 0.1 * g
        engine.train(batch)


def main():
    checks = Checks()
    for check in (block_sparse, chatglm, lstm):
        if len(sys.argv) == 1 or check.__name__ in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as work:
                try:
                    check(checks, pathlib.Path(work))
                except Exception as error:
                    checks.case(f"{check.__name__}: {type(error).__name__}: {error}", False)
    for case in CASES:
        if len(sys.argv) > 1 and case[0] not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                run(checks, case, pathlib.Path(work))
            except Exception as error:
                checks.case(f"{case[0]}: {type(error).__name__}: {error}", False)
    print(f"{len(CASES)} models, transformers {transformers.__version__}, largest relative error {checks.worst:.1e}")
    checks.finish()


if __name__ == "__main__":
    main()
