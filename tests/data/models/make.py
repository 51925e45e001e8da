"""Makes the golden folders whose answers come from here: heads over rows whose labels are numbers, or yes and no to each class, and the families of CASES.

As the other folders (config.json, model.safetensors, inputs.safetensors, case.json, expected.safetensors), computed by transformers in f64 and stored
as f32; the rows of torch_errors.json, torch's own distance in f32 and under bf16 autocast, are made too. Needs torch and transformers; run here, with
the names of folders to make only those.
"""
import contextlib
import copy
import json
import pathlib
import sys
import tempfile
from unittest import mock

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
OPTIMIZER = {"type": "AdamW", "params": {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-05, "weight_decay": 0.01}}
BERT = dict(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
SMALL = dict(BERT, vocab_size=61, intermediate_size=40)
DECODER = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40, max_position_embeddings=40, pad_token_id=0)
GPT = dict(vocab_size=61, n_positions=40, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1, pad_token_id=0)
MOE = dict(DECODER, hidden_size=24, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, output_router_logits=True, router_aux_loss_coef=0.1)
# folder: config class, model class, settings, task, labels
CASES = {
    "bert-regression": ("BertConfig", "BertForSequenceClassification", dict(BERT, num_labels=1), "seqcls", torch.tensor([0.75, -1.5, 3.0])),
    "bert-multilabel": ("BertConfig", "BertForSequenceClassification", dict(BERT, num_labels=3, problem_type="multi_label_classification"), "seqcls",
                        torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])),
    "roberta-sentiment": ("RobertaConfig", "RobertaForSequenceClassification", dict(SMALL, num_labels=3), "seqcls", torch.tensor([2, 0, 1])),
    "xlm-roberta-mlm": ("XLMRobertaConfig", "XLMRobertaForMaskedLM", dict(SMALL, type_vocab_size=1), "mlm", "words"),
    "distilbert-qa": ("DistilBertConfig", "DistilBertForQuestionAnswering", dict(vocab_size=61, dim=32, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=40, dropout=0.0, attention_dropout=0.0,
                                                                                qa_dropout=0.0), "qa", "spans"),
    "granite": ("GraniteConfig", "GraniteForCausalLM", dict(DECODER, embedding_multiplier=12.0, attention_multiplier=0.2, residual_multiplier=0.22, logits_scaling=8.0), "causal", "words"),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", dict(DECODER, head_dim=12), "causal", "words"),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", dict(DECODER, sliding_window=8, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}), "causal", "words"),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", dict(DECODER, attention_bias=True), "causal", "words"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", dict(DECODER, head_dim=12, sliding_window=8, query_pre_attn_scalar=20, layer_types=["sliding_attention", "full_attention"]), "causal", "words"),
    "phi": ("PhiConfig", "PhiForCausalLM", dict(DECODER, qk_layernorm=True), "causal", "words"),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", dict(DECODER, use_qkv_bias=True), "causal", "words"),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", dict(DECODER, sliding_window=8), "causal", "words"),
    "gptj": ("GPTJConfig", "GPTJForCausalLM", dict(GPT, rotary_dim=6), "causal", "words"),
    "opt": ("OPTConfig", "OPTForCausalLM", dict(vocab_size=61, hidden_size=32, word_embed_proj_dim=20, num_hidden_layers=2, num_attention_heads=4, ffn_dim=40, max_position_embeddings=40, dropout=0.0,
                                                do_layer_norm_before=False), "causal", "words"),
    "llama-reward": ("LlamaConfig", "LlamaForSequenceClassification", dict(DECODER, num_labels=1), "seqcls", torch.tensor([0.75, -1.5, 3.0])),
    "gpt2-tags": ("GPT2Config", "GPT2ForTokenClassification", dict(GPT, num_labels=5, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, classifier_dropout=0.0), "tokcls", "tags"),
    "qwen2-moe": ("Qwen2MoeConfig", "Qwen2MoeForCausalLM", dict(MOE, shared_expert_intermediate_size=20), "causal", "words"),
    "qwen3-moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", dict(MOE, head_dim=12, norm_topk_prob=True, decoder_sparse_step=2), "causal", "words"),
}


@contextlib.contextmanager
def whole_f64():
    """transformers computes norms, softmax and losses in f32, whatever the model's type: here that means f64."""
    to, softmax, zeros = torch.Tensor.to, torch.nn.functional.softmax, torch.zeros
    wide = lambda x: torch.float64 if x is torch.float32 else x
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double), \
            mock.patch.object(torch.Tensor, "to", lambda x, *a, **k: to(x, *map(wide, a), **{key: wide(value) for key, value in k.items()})), \
            mock.patch.object(torch, "zeros", lambda *a, dtype=None, **k: zeros(*a, dtype=wide(dtype), **k)), \
            mock.patch.object(torch.nn.functional, "softmax", lambda x, *a, dtype=None, **k: softmax(x, *a, dtype=wide(dtype), **k)):
        yield


def named(model, of):
    """Tensors by the names that a folder has for them: transformers writes the folder."""
    model = copy.deepcopy(model)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for parameter, value in zip(model.parameters(), of):
            parameter.copy_(value)
        model.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def run(model, batch, autocast=False):
    """Everything that a case compares, and the losses of three steps."""
    found, losses = {}, []
    p = OPTIMIZER["params"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=p["lr"], betas=p["betas"], eps=p["eps"], weight_decay=p["weight_decay"])
    for step in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(**batch)
        optimizer.zero_grad()
        out.loss.backward()
        if step == 0:
            found.update({f"output.{name}": out[name].detach() for name in ("logits", "start_logits", "end_logits") if name in out})
            found["loss"] = out.loss.detach()
            found.update({f"grad.{name}": value for name, value in named(model, [torch.zeros_like(w) if w.grad is None else w.grad for w in model.parameters()]).items()})
        losses.append(float(out.loss.detach()))
        found[f"step{step + 1}.loss"] = out.loss.detach()
        optimizer.step()
    found.update({f"param.{name}": value for name, value in named(model, model.parameters()).items()})
    return found, losses


def errors(found, exact):
    worst = {"out": 0.0, "loss": 0.0, "grad": 0.0, "param": 0.0}
    zero = {name[5:] for name, value in exact.items() if name.startswith("grad.") and value.abs().max() < 1e-7}
    for name, value in exact.items():
        kind = "out" if name.startswith("output.") else "loss" if name.endswith("loss") else name.split(".")[0]
        if kind in ("grad", "param") and name.split(".", 1)[1] in zero:
            continue
        worst[kind] = max(worst[kind], float((found[name].double() - value).norm() / value.norm()))
    return {kind: float(f"{error:.3g}") for kind, error in worst.items()}


def batch_of(config, labels):
    """Rows of 10, 7 and 4 tokens."""
    mask = torch.tensor([[1] * n + [0] * (10 - n) for n in (10, 7, 4)])
    pad = config.pad_token_id or 0
    batch = {"input_ids": torch.where(mask == 1, torch.randint(2, config.vocab_size, (3, 10)), pad), "attention_mask": mask}
    if config.model_type in ("bert", "roberta"):
        batch["token_type_ids"] = (torch.arange(10) >= 4).long() * mask
    if isinstance(labels, torch.Tensor):
        return batch | {"labels": labels}
    if labels == "spans":
        return batch | {"start_positions": torch.tensor([3, 0, 2]), "end_positions": torch.tensor([8, 1, 2])}
    if labels == "tags":
        return batch | {"labels": torch.where(mask == 1, torch.randint(0, config.num_labels, (3, 10)), -100)}
    return batch | {"labels": torch.where((mask == 1) & (torch.rand(3, 10) < 0.8), batch["input_ids"], -100)}


torch_errors = json.loads((HERE / "torch_errors.json").read_text())
for name, (config_class, model_class, settings, task, labels) in CASES.items():
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        continue
    torch.manual_seed(7)
    config = getattr(transformers, config_class)(**settings, attn_implementation="eager", **({"experts_implementation": "eager"} if "Moe" in config_class else {}))
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = batch_of(config, labels)
    with whole_f64():
        exact, losses = run(copy.deepcopy(model).double(), {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()})
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file(inputs, folder / "inputs.safetensors")
    save_file({key: value.float().contiguous().clone() for key, value in exact.items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps({"model": name, "task": task, "optimizer": OPTIMIZER, "steps": 3, "losses": losses,
                                                  "note": "weight decay on every parameter; no dropout"}, indent=1) + "\n")
    torch_errors[name] = {"f32": errors(run(copy.deepcopy(model), inputs)[0], exact), "bf16_autocast": errors(run(copy.deepcopy(model), inputs, True)[0], exact)}
(HERE / "torch_errors.json").write_text(json.dumps(torch_errors, indent=0) + "\n")
