"""Compressed folders beside transformers: what libdsrt pruned or rounded in training computes the same there. Folders in few bits need the package
compressed-tensors, which transformers reads them by. Prints "N passed, N failed".
"""
import importlib.util
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
BERT = dict(vocab_size=101, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, max_position_embeddings=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
LLAMA = dict(vocab_size=101, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=128, max_position_embeddings=48)
LINEAR = ["attention.self", "attention.output.dense", "intermediate.dense", r"layer.\d+.output.dense", "_proj$"]


def technique(name, shared, params, modules, related=None):
    group = {"params": params, "modules": modules} | ({"related_modules": related} if related else {})
    return {name: {"shared_parameters": {"enabled": True, "schedule_offset": 0, **shared}, "different_groups": {"all": group}}}


def rounded(bits, kind, groups, modules, **inputs):
    section = technique("weight_quantization", {"quantize_weight_in_forward": True, "quantize_groups": groups, "quantization_type": kind}, {"start_bits": bits, "target_bits": bits}, modules)
    return section | (technique("activation_quantization", inputs, {"bits": 8}, modules) if inputs else {})


BERTS, LLAMAS = LINEAR[:4], LINEAR[4:]
HALF = {"dense_ratio": 0.5}
# name, family, compression_training, export, how far logits may be apart
CASES = [
    ("2 of 4 weights", "bert", technique("sparse_pruning", {"method": "l1", "block_pattern": "2:4"}, HALF, BERTS), {}, 1e-5),
    ("half of the weights, learned", "llama", technique("sparse_pruning", {"method": "topk"}, HALF, LLAMAS), {}, 1e-5),
    ("half of the rows, taken out", "bert", technique("row_pruning", {"method": "l1"}, HALF, ["intermediate.dense"], [[r"layer.\d+.output.dense"]]), {}, 1e-5),
    ("half of the rows, as zeros", "bert", technique("row_pruning", {"method": "topk"}, HALF, ["intermediate.dense"]), {}, 1e-5),
    ("half of the heads, taken out", "llama", technique("head_pruning", {"num_heads": 4}, HALF, ["o_proj"], [["q_proj", "k_proj", "v_proj"]]), {}, 1e-5),
    ("int4 in groups", "llama", rounded(4, "symmetric", 256, LLAMAS), {"quantized": True}, 1e-4),
    ("int4 in groups, asymmetric", "bert", rounded(4, "asymmetric", 256, BERTS), {"quantized": True}, 1e-4),
    ("8 bits", "llama", rounded(8, "symmetric", 1, LLAMAS), {"quantized": True}, 1e-4),
    ("8 bits, inputs in static ranges", "bert", rounded(8, "symmetric", 1, BERTS, range_calibration="static"), {"quantized": True}, 2e-3),
    ("8 bits, inputs in static ranges, asymmetric", "llama", rounded(8, "symmetric", 1, LLAMAS, range_calibration="static", quantization_type="asymmetric"), {"quantized": True}, 2e-3),
]


def load(kind, folder):
    """By transformers; where compressed-tensors' 4-bit zero points are of another shape than it packs them in (0.20, its own folders too), by its codes' own decoder."""
    config = transformers.AutoConfig.from_pretrained(folder)
    groups = getattr(config, "quantization_config", {}).get("config_groups", {}).values()
    if not any(group["weights"]["num_bits"] == 4 and not group["weights"]["symmetric"] for group in groups):
        return kind.from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from safetensors.torch import load_file
    tensors = load_file(folder / "model.safetensors")
    for group in groups:
        scheme = QuantizationScheme(targets=group["targets"], weights=group["weights"], format=group["format"])
        for module in group["targets"]:
            coded = {name: tensors.pop(f"{module}.{name}") for name in ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")}
            tensors[f"{module}.weight"] = PackedQuantizationCompressor.decompress(coded, scheme)["weight"]
    del config.quantization_config
    model = kind(config)
    odd = model.load_state_dict(tensors, strict=False)
    return model, {"missing_keys": odd.missing_keys, "unexpected_keys": odd.unexpected_keys, "mismatched_keys": []}


def main():
    has_reader = importlib.util.find_spec("compressed_tensors") is not None
    tally = Tally()
    for name, family, compression, export, bound in CASES:
        if export and not has_reader:
            print(f"SKIPPED {name}: there is no compressed-tensors, which transformers reads folders in few bits by")
            continue
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as work:
            torch.manual_seed(3)
            bert = family == "bert"
            model = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=3, **BERT)) if bert else transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))
            whole, small = pathlib.Path(work) / "whole", pathlib.Path(work) / "small"
            model.save_pretrained(whole)
            engine = dsrt.Engine({"model": str(whole), "train_micro_batch_size_per_gpu": 4, "threads": 2, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}, "compression_training": compression})
            generator = np.random.default_rng(5)
            ids = generator.integers(1, 100, (4, 12)).astype(np.int32)
            labels = generator.integers(0, 3, 4).astype(np.int32) if bert else ids
            batch = dsrt.Batch(input_ids=ids, labels=labels)
            for _ in range(4):
                engine.train(batch)
            engine.eval(batch)
            ours = engine.output("logits")
            engine.export(small, export or None)
            again = dsrt.Engine({"model": str(small), "threads": 2})
            again.eval(batch)
            by_folder = again.output("logits")
            theirs, info = load(type(model), small)
            with torch.no_grad():
                logits = theirs.eval()(input_ids=torch.from_numpy(ids).long()).logits.float().numpy()
            size = lambda folder: sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            norm = np.linalg.norm(ours)
            apart = [np.linalg.norm(by_folder - ours) / norm, np.linalg.norm(logits - by_folder) / norm]
            odd = [f"{kind}: {sorted(info[kind])[:3]}" for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]]
            smaller = size(small) < size(whole)
            about = f"{name}: folder beside engine {apart[0]:.1e}, transformers beside folder {apart[1]:.1e}, {size(small) / size(whole):.2f} of the bytes"
            good = max(apart) <= bound and not odd and (smaller or not (export or "out" in name))
            tally.case(f"{about}, bound {bound}; {odd}", good)
            if good:
                print(about)
    tally.finish()


if __name__ == "__main__":
    main()
