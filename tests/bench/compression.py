#!/usr/bin/env python3
"""A row for each way of making a model smaller: what its weights take on disk and in memory, processor seconds of an evaluation of the test split by one thread from start to end
(which other work on the machine disturbs less than seconds of the clock), accuracy. compression.sh sets everything up. Ways that train begin from the whole model's fine-tuned folder; students of layer reduction too."""
import argparse
import json
import os
import resource
import subprocess
import sys

LINEAR = [r"attention\.self", r"attention\.output\.dense", r"intermediate\.dense", r"layer\.\d+\.output\.dense"]


def technique(name, shared, params, modules=LINEAR, related=None):
    group = {"params": params, "modules": modules}
    if related:
        group["related_modules"] = related
    return {"compression_training": {name: {"shared_parameters": {"enabled": True, "schedule_offset": 0, **shared}, "different_groups": {"all": group}}}}


def student(layers, **distillation):
    section = {"layer_reduction": {"enabled": True, "keep_number_layer": len(layers), "module_name_prefix": "bert.encoder.layer", "teacher_layer": layers,
                                   "other_module_name": ["bert.embeddings", "bert.pooler", "classifier"]}}
    if distillation:
        section["knowledge_distillation"] = {"enabled": True, **distillation}
    return {"compression_training": section}


QUANTIZED = {"--quantized": True}  # the folder that training writes keeps few bits, and says so itself


# Weights in groups along the inputs: MiniLM's matrices have 384 x 384, 384 x 1536 and 1536 x 384 elements, so 4608 groups are of 32 and of 128.
def rounded(bits, kind, groups=4608, **inputs):
    way = technique("weight_quantization", {"quantize_weight_in_forward": True, "quantize_groups": groups, "quantization_type": kind}, {"start_bits": bits, "target_bits": bits})
    if inputs:
        way["compression_training"] |= technique("activation_quantization", inputs, {"bits": 8})["compression_training"]
    return way


SPARSE = {"sparse_weights": {"enabled": True, "max_density": 0.6}}


def pruned(dense_ratio, **how):
    return technique("sparse_pruning", {"method": "l1", **how}, {"dense_ratio": dense_ratio})


# name: (config while training or None where nothing is trained, config of the evaluation)
WAYS = {
    "whole": (None, {}),
    "int4 in groups of 64, decoded": (None, {"quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "int4", "group_size": 64}}),
    "int4 in groups of 64, asymmetric": (None, {"quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "int4", "group_size": 64, "sym": False}}),
    "NF4, decoded": (None, {"quantization": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}}),
    "8 bits, decoded": (None, {"quantization": {"load_in_8bit": True}}),
    "8 bits, integer products": (None, {"quantization": {"load_in_8bit": True, "int8_products": True}}),
    "half of the weights": (pruned(0.5), {}),
    "half of the weights, zeros left out": (pruned(0.5), SPARSE),
    "2 of 4 weights": (pruned(0.5, block_pattern="2:4"), {}),
    "2 of 4 weights, zeros left out": (pruned(0.5, block_pattern="2:4"), SPARSE),
    "a fifth of the weights": (pruned(0.2), {}),
    "a fifth of the weights, zeros left out": (pruned(0.2), SPARSE),
    "half of the inner rows": (technique("row_pruning", {"method": "l1"}, {"dense_ratio": 0.5}, [r"layer\.\d+\.intermediate\.dense"], [[r"layer\.\d+\.output\.dense"]]), {}),
    "a quarter of the heads": (technique("head_pruning", {"method": "topk", "num_heads": 12}, {"dense_ratio": 0.75}, [r"attention\.output\.dense"]), {}),
    "trained with int4 weights": (rounded(4, "symmetric"), QUANTIZED),
    "trained with int4 weights, asymmetric": (rounded(4, "asymmetric"), QUANTIZED),
    "trained with 8-bit weights and inputs": (rounded(8, "symmetric", 1, range_calibration="dynamic"), QUANTIZED),
    "trained with 8-bit weights and inputs, static ranges": (rounded(8, "symmetric", 1, range_calibration="static"), QUANTIZED),
    "3 of 6 layers": (student([1, 3, 5]), {}),
    "3 of 6 layers, distilled": (student([1, 3, 5], temperature=2.0, alpha=0.7, hidden_weight=0.1), {}),
}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def write(path, config):
    with open(path, "w") as file:
        json.dump(config, file, indent=1)
    return path


def main():
    parser = argparse.ArgumentParser()
    for name in ("train", "dsrt", "config", "work"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--steps", type=int), parser.add_argument("--repeats", type=int, default=3), parser.add_argument("--only"), parser.add_argument("--f32", action="store_true")
    parser.add_argument("--threads", type=int, help="of trainings")
    parser.add_argument("--again", action="store_true", help="evaluate what an earlier run trained")
    parser.add_argument("--whole", help="a fine-tuned folder to begin from; none: it is trained")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    base = json.load(open(args.config))
    base |= {"bf16": {"enabled": not args.f32}} | ({"threads": args.threads} if args.threads else {})
    steps = ["--steps", str(args.steps)] if args.steps else []

    made = {}  # folders, by what was trained: several ways may evaluate one

    def trained(name, config, quantized=False):
        key = json.dumps([config, quantized], sort_keys=True)
        if key in made:
            return made[key]
        folder = os.path.join(args.work, name.replace(" ", "_").replace(",", ""))
        if not (args.again and os.path.exists(os.path.join(folder, "model", "config.json"))):
            run([args.train, write(folder + ".json", config), "--output", folder, *steps, *(["--quantized"] if quantized else [])])
        made[key] = os.path.join(folder, "model")
        return made[key]

    def processor_seconds():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    whole = args.whole or trained("whole", base)
    tuned = {key: value for key, value in base.items() if key != "model_overrides"} | {"model": whole}
    print("| way | its folder's weights, MB | weights in memory, MB | processor seconds of evaluation | accuracy, % |\n|---|---|---|---|---|")
    wanted = args.only.split(";") if args.only else list(WAYS)
    for name in wanted:
        training, evaluating = WAYS[name]
        evaluating = dict(evaluating)
        quantized = evaluating.pop("--quantized", False)
        model = whole if training is None else trained(name, tuned | training, quantized)
        path = write(os.path.join(args.work, "evaluate.json"), {key: value for key, value in tuned.items() if key not in ("optimizer", "scheduler")} | {"model": model, "threads": 1} | evaluating)
        seconds = []
        for _ in range(args.repeats):
            begin = processor_seconds()
            scores = json.loads(run([args.dsrt, "evaluate", path, "--json"]))
            seconds.append(processor_seconds() - begin)
        on_disk = sum(os.path.getsize(os.path.join(model, file)) for file in os.listdir(model) if file.endswith(".safetensors"))
        memory = json.loads(run([args.dsrt, "plan", path, "--json"]))["memory_bytes"]["weights"]
        print(f"| {name} | {on_disk / 1e6:.1f} | {memory / 1e6:.1f} | {min(seconds):.2f} | {100 * scores['accuracy']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
