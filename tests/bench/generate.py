#!/usr/bin/env python3
"""Tokens a second of generation and the process's peak memory, libdsrt and transformers in turn on the same random GPT-2 (124M), a prompt of 32 ids; in bf16 both hold weights in bf16 alone.
generate.sh sets it up."""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = [(7 * i + 11) % 50000 for i in range(32)]
SIDES = ("libdsrt", "transformers")


def ours(folder, args):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "transformers"))
    import dsrt

    config = {"model": folder, "threads": args.threads}
    if args.dtype == "bf16":
        config |= {"bf16": {"enabled": True}, "quantization": {"load_in_16bit": True}}
    engine = dsrt.Engine(config)
    options = {"eos_token_id": -1, "num_beams": args.beams}
    return lambda new: engine.generate([PROMPT] * args.rows, {**options, "max_new_tokens": new})


def theirs(folder, args):
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if args.dtype == "bf16" else torch.float32).eval()
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    ids = torch.tensor([PROMPT] * args.rows)

    def run(new):
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=args.beams, max_new_tokens=new, min_new_tokens=new)

    return run


def side(args):
    generate = {"libdsrt": ours, "transformers": theirs}[args.side](args.folder, args)
    generate(8)
    times = []
    for new in (args.new // 4, args.new):  # their difference leaves the prompt out
        began = time.perf_counter()
        generate(new)
        times.append(time.perf_counter() - began)
    print(json.dumps({"tokens_per_second": args.rows * (args.new - args.new // 4) / (times[1] - times[0]), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=SIDES), parser.add_argument("--folder"), parser.add_argument("--dtype", default="bf16"), parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--beams", type=int, default=1), parser.add_argument("--new", type=int, default=128), parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.side:
        return side(args)
    with tempfile.TemporaryDirectory() as folder:
        make = "import transformers, sys; transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(sys.argv[1])"
        subprocess.run([sys.executable, "-c", make, folder], check=True, capture_output=True)
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
        print(f"{cpu}, {args.threads} threads; tokens a second, median of {args.repeats} alternating runs (min..max)\n")
        print("| generation, GPT-2 124M | libdsrt | transformers | ratio | peak memory, MiB |\n|---|---|---|---|---|")
        for dtype, rows, beams in [("bf16", 1, 1), ("f32", 1, 1), ("bf16", 4, 1), ("bf16", 1, 4)]:
            found, peaks = {name: [] for name in SIDES}, {}
            for _ in range(args.repeats):
                for name in SIDES:
                    command = [sys.executable, __file__, "--side", name, "--folder", folder, "--dtype", dtype, "--rows", str(rows), "--beams", str(beams), "--new", str(args.new),
                               "--threads", str(args.threads)]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if done.returncode:
                        sys.exit(done.stderr)
                    told = json.loads(done.stdout.strip().splitlines()[-1])
                    found[name].append(told["tokens_per_second"])
                    peaks[name] = told["peak_mib"]
            cells = [f"{statistics.median(found[n]):.1f} ({min(found[n]):.1f}..{max(found[n]):.1f})" for n in SIDES]
            print(f"| {dtype}, {rows} row{'s' if rows > 1 else ''}, {'greedy' if beams == 1 else f'{beams} beams'} | {cells[0]} | {cells[1]} | "
                  f"{statistics.median(found[SIDES[0]]) / statistics.median(found[SIDES[1]]):.2f} | {peaks[SIDES[0]]}, {peaks[SIDES[1]]} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
