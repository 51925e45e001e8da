"""Makes the adapters of this folder and what PEFT computes with them in f64. Run in an environment with torch, transformers, peft and safetensors:

    python tests/data/lora/make.py

For each case: adapter_config.json and adapter_model.safetensors as PEFT writes them (random A and B), and expected.safetensors: loss, grad.<tensor>
after one backward over the model's golden batch, step<k>.loss and param.<tensor> after three AdamW steps without weight decay, logits of the batch.
"""
import json
import pathlib
import shutil

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
CASES = {
    "gpt2-all": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, bias="lora_only")),
    "gpt2-b": ("gpt2", dict(r=2, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True)),
    "llama-qv": ("llama", dict(r=8, lora_alpha=16)),
    "llama-rs": ("llama", dict(r=3, lora_alpha=5, use_rslora=True, target_modules="all-linear", modules_to_save=["lm_head"])),
    "bert-ner": ("bert-ner", dict(r=4, lora_alpha=4, target_modules=["query", "value"], modules_to_save=["classifier"], bias="all")),
}
KINDS = {"bert-ner": transformers.AutoModelForTokenClassification}


def name_of(parameter):
    return parameter.replace(".default", "").replace("modules_to_save.", "").replace(".base_layer", "")


def main():
    torch.set_default_dtype(torch.float64)
    for name, (folder, settings) in CASES.items():
        torch.manual_seed(len(name))
        kind = KINDS.get(folder, transformers.AutoModelForCausalLM)
        model = kind.from_pretrained(MODELS / folder, dtype=torch.float64, attn_implementation="eager")
        if settings.get("modules_to_save") == ["lm_head"]:
            settings["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        tuned = peft.get_peft_model(model, peft.LoraConfig(task_type=None, **settings))
        for parameter, value in tuned.named_parameters():
            if value.requires_grad and "lora_" in parameter:
                value.data = (torch.randn_like(value) * 0.2).float().double()
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        tuned.save_pretrained(out)
        (out / "README.md").unlink(missing_ok=True)
        config = json.loads((out / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = folder  # no path of the machine that made it
        (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        saved = {k: v.float() for k, v in load_file(out / "adapter_model.safetensors").items()}
        save_file(saved, out / "adapter_model.safetensors", metadata={"format": "pt"})
        batch = load_file(MODELS / folder / "inputs.safetensors")
        trained = {name_of(n): p for n, p in tuned.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(trained.values(), lr=0.01, eps=1e-5, weight_decay=0)
        expected = {}
        tuned.eval()
        for step in range(1, 4):
            optimizer.zero_grad()
            result = tuned(**batch)
            if step == 1:
                expected["loss"] = result.loss.detach().reshape(1)
                expected["logits"] = result.logits.detach()
            result.loss.backward()
            if step == 1:
                for n, p in trained.items():
                    expected["grad." + n] = p.grad.clone()
            optimizer.step()
            expected[f"step{step}.loss"] = result.loss.detach().clone().reshape(1)
        for n, p in trained.items():
            expected["param." + n] = p.detach().clone()
        save_file({k: v.float().contiguous() for k, v in expected.items()}, out / "expected.safetensors")
        print(name, sorted(saved)[:3], len(saved), len(trained))


main()
