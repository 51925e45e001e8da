"""Makes bert-regression and bert-multilabel: what transformers answers for heads over rows whose labels are numbers, or yes and no to each class.

As the other folders (config.json, model.safetensors, inputs.safetensors, case.json, expected.safetensors), computed in f64 and stored as f32; the
rows of torch_errors.json, torch's own distance in f32 and under bf16 autocast, are made too. Needs torch and transformers; run here.
"""
import copy
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
OPTIMIZER = {"type": "AdamW", "params": {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-05, "weight_decay": 0.01}}
LABELS = {"bert-regression": (1, torch.tensor([0.75, -1.5, 3.0])), "bert-multilabel": (3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))}


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
            found["output.logits"] = out.logits.detach()
            found["loss"] = out.loss.detach()
            found.update({f"grad.{name}": w.grad.clone() for name, w in model.named_parameters()})
        losses.append(float(out.loss.detach()))
        found[f"step{step + 1}.loss"] = out.loss.detach()
        optimizer.step()
    found.update({f"param.{name}": w.detach().clone() for name, w in model.named_parameters()})
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


torch_errors = json.loads((HERE / "torch_errors.json").read_text())
for name, (labels, values) in LABELS.items():
    torch.manual_seed(7)
    config = transformers.BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=40, num_labels=labels,
                                     hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")
    if labels > 1:
        config.problem_type = "multi_label_classification"
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    mask = torch.tensor([[1] * n + [0] * (10 - n) for n in (10, 7, 4)])
    inputs = {"input_ids": torch.randint(1, 97, (3, 10)) * mask, "attention_mask": mask, "token_type_ids": (torch.arange(10) >= 4).long() * mask, "labels": values}
    exact, losses = run(copy.deepcopy(model).double(), dict(inputs, labels=values.double()))
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file(inputs, folder / "inputs.safetensors")
    save_file({key: value.float().contiguous() for key, value in exact.items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps({"model": name, "task": "seqcls", "optimizer": OPTIMIZER, "steps": 3, "losses": losses,
                                                  "note": "weight decay on every parameter; no dropout"}, indent=1) + "\n")
    torch_errors[name] = {"f32": errors(run(copy.deepcopy(model), inputs)[0], exact), "bf16_autocast": errors(run(copy.deepcopy(model), inputs, True)[0], exact)}
(HERE / "torch_errors.json").write_text(json.dumps(torch_errors, indent=0) + "\n")
