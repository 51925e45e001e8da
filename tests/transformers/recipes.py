"""Optimizers, schedules and loss scales with unusual settings beside torch's and DeepSpeed's own: weights after each of eight steps, rates and momenta
after each of sixty, the scale after each of a row of overflows. Each case is a kind and a number, which seeds its settings. What the peer itself
declines is counted. Prints "N passed, N failed": a case is one run.

recipes.py [CASES a kind] [KIND | KIND:NUMBER ...]
"""
import importlib.util
import logging
import random
import sys
import types
import warnings

import numpy as np
import torch

import dsrt
from tally import Tally

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
MODEL = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 8, "n_positions": 4, "n_embd": 4, "n_layer": 1, "n_head": 1, "n_inner": 7, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
WEIGHT = "transformer.h.0.mlp.c_fc.weight"  # [4, 7]
BIAS = "transformer.h.0.mlp.c_fc.bias"


class Declined(Exception):
    pass


def of_deepspeed(module):
    if not importlib.util.find_spec("deepspeed"):
        raise Declined("there is no deepspeed")
    return importlib.import_module(f"deepspeed.runtime.{module}")


def some(r, settings, share=0.6):
    return {key: value for key, value in settings.items() if r.random() < share}


def engine_of(optimizer, **more):
    return dsrt.Engine({"model": MODEL, "train_batch_size": 1, "gradient_clipping": 0, "threads": 1, "logger": {"default_verbosity": "ERROR"}, "optimizer": optimizer, **more})


def batch():
    ids = np.array([[1, 2, 3]])
    return dsrt.Batch(input_ids=ids, labels=ids)


def betas(r):
    return [r.choice([0.0, 0.5, 0.9, 0.99]), r.choice([0.0, 0.9, 0.999, 0.9999])]


# What torch has under the same names, and what of its settings libdsrt may refuse.
def optimizer(r):
    lr, decay = r.choice([0.0, 1e-4, 0.03, 0.5]), r.choice([0.0, 0.1, 1.0])
    kind = r.choice(["Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "Adafactor", "Muon", "Lion"])
    p = {"lr": lr, "weight_decay": decay}
    if kind in ("Adam", "AdamW"):
        p.update(some(r, {"betas": betas(r), "eps": r.choice([1e-8, 1e-3, 0.5])}))
        peer = (lambda w: torch.optim.Adam(w, **p)) if kind == "Adam" else lambda w: torch.optim.AdamW(w, **p)
        return kind, dict(p, **({"adam_w_mode": False} if kind == "Adam" else {})), peer
    if kind == "SGD":
        p.update(some(r, {"momentum": r.choice([0.0, 0.5, 0.99]), "maximize": r.random() < 0.5}))
        p.update({"nesterov": True} if r.random() < 0.4 and p.get("momentum") else some(r, {"dampening": r.choice([0.0, 0.3, 1.0])}))
        return kind, p, lambda w: torch.optim.SGD(w, **p)
    if kind == "Adagrad":
        p.update(some(r, {"lr_decay": r.choice([0.0, 0.1, 2.0]), "initial_accumulator_value": r.choice([0.0, 0.5]), "eps": r.choice([1e-10, 0.1]), "maximize": r.random() < 0.5}))
        return kind, p, lambda w: torch.optim.Adagrad(w, **p)
    if kind == "RMSprop":
        p.update(some(r, {"alpha": r.choice([0.0, 0.5, 0.99]), "eps": r.choice([1e-8, 0.1]), "momentum": r.choice([0.0, 0.9]), "centered": r.random() < 0.5, "maximize": r.random() < 0.5}))
        return kind, p, lambda w: torch.optim.RMSprop(w, **p)
    if kind == "Adafactor":
        p.update(some(r, {"beta2_decay": r.choice([-0.8, -0.3, 0.0]), "eps": r.choice([[None, 1e-3], [1e-3, 0.1], [1e-6, 1e-2]]), "d": r.choice([1.0, 2.5]), "maximize": r.random() < 0.5}))
        return kind, p, lambda w: torch.optim.Adafactor(w, **dict(p, **({"eps": tuple(p["eps"])} if "eps" in p else {})))
    if kind == "Muon":
        p.update(some(r, {"momentum": r.choice([0.0, 0.5, 0.95]), "nesterov": r.random() < 0.5, "ns_steps": r.choice([1, 3, 5]), "adjust_lr_fn": r.choice(["original", "match_rms_adamw"]), "ns_coefficients": [2.0, -1.5, 0.5]}))
        theirs = dict(p, **({"ns_coefficients": tuple(p["ns_coefficients"])} if "ns_coefficients" in p else {}))
        return kind, p, lambda w: torch.optim.Muon(w, **theirs)
    p.update(some(r, {"betas": betas(r)}))
    return kind, p, lambda w: Lion(w, p["lr"], p.get("betas", [0.9, 0.999]), p["weight_decay"])


class Lion:
    """Algorithm 2 of arXiv 2302.06675."""
    def __init__(self, weights, lr, betas_, decay):
        (self.w,), self.lr, self.betas, self.decay, self.m = weights, lr, betas_, decay, 0.0

    @torch.no_grad()
    def step(self):
        b1, b2 = self.betas
        self.w.mul_(1 - self.lr * self.decay).sub_(self.lr * torch.sign(b1 * self.m + (1 - b1) * self.w.grad))
        self.m = b2 * self.m + (1 - b2) * self.w.grad


def optimizers(r):
    kind, params, peer = optimizer(r)
    what = WEIGHT if kind == "Muon" or r.random() < 0.7 else BIAS
    yield f"{kind} {params} of {what}"
    random_ = np.random.default_rng(r.randrange(1 << 30))
    engine = engine_of({"type": kind, "params": params})
    start = random_.normal(size=engine.param(what).shape)
    # In f32, what the rules divide by may be lost in rounding; nothing here comes near.
    exact = torch.tensor(start.astype(np.float32), dtype=torch.float32 if kind == "Muon" else torch.float64, requires_grad=True)
    engine.set_param(what, start.astype(np.float32))
    theirs = peer([exact])
    for step in range(8):
        gradient = (random_.normal(size=start.shape) * r.choice([1, 1, 100, 1e-3])).astype(np.float32)
        if r.random() < 0.2:
            gradient[..., :2] = 0
        engine.forward(batch())
        engine.backward()
        g = dsrt.Tensor(gradient)
        dsrt.call("ds_param_set", engine.p, dsrt.text(what), 1, g.p)
        engine.step()
        exact.grad = torch.tensor(gradient, dtype=exact.dtype)
        theirs.step()
        found, wanted = engine.param(what), exact.detach().double().numpy()
        error = np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-3)
        # Muon's products are in bf16, added up in another order.
        if not (error <= (2e-2 if kind == "Muon" else 2e-5)) and np.isfinite(wanted).all():
            yield f"step {step}: relative error {error:.1e}"
            return


def schedule(r):
    rate = lambda: r.choice([0.0, 1e-4, 0.003, 0.02])
    steps = lambda: r.choice([1, 2, 5, 13, 40])
    torchs = torch.optim.lr_scheduler
    warm = lambda: {"warmup_num_steps": r.choice([0, 1, 2, 3, 10]), **some(r, {"warmup_type": r.choice(["log", "linear"])})}
    kind = r.choice(["WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "StepLR", "LinearLR"])
    params = {
        "WarmupLR": lambda: {**warm(), **some(r, {"warmup_min_lr": rate(), "warmup_max_lr": rate()})},
        "WarmupDecayLR": lambda: {**warm(), "total_num_steps": steps(), **some(r, {"warmup_min_lr": rate(), "warmup_max_lr": rate()})},
        "WarmupCosineLR": lambda: {**warm(), "total_num_steps": steps(), **some(r, {"warmup_min_ratio": r.choice([0.0, 0.3, 1.0]), "cos_min_ratio": r.choice([0.0, 0.5])})},
        "OneCycle": lambda: {"cycle_min_lr": r.choice([1e-4, 1e-3]), "cycle_max_lr": rate(), "cycle_first_step_size": steps(), **some(r, {
            "cycle_second_step_size": steps(), "decay_lr_rate": r.choice([0.0, 0.3]), "decay_step_size": r.choice([0, 1, 7]), "cycle_momentum": r.random() < 0.5, "cycle_min_mom": 0.7, "cycle_max_mom": 0.95,
            "decay_mom_rate": r.choice([0.0, 0.1])})},
        "LRRangeTest": lambda: some(r, {"lr_range_test_min_lr": rate(), "lr_range_test_step_size": steps(), "lr_range_test_step_rate": r.choice([0.0, 0.5, 3.0]), "lr_range_test_staircase": r.random() < 0.5}),
        "CosineAnnealingLR": lambda: {"T_max": steps(), **some(r, {"eta_min": rate()})},
        "CosineAnnealingWarmRestarts": lambda: {"T_0": steps(), **some(r, {"T_mult": r.choice([1, 2, 3]), "eta_min": rate()})},
        "ExponentialLR": lambda: {"gamma": r.choice([0.5, 0.99, 1.0])},
        "StepLR": lambda: {"step_size": steps(), **some(r, {"gamma": r.choice([0.1, 0.9, 1.0])})},
        "LinearLR": lambda: some(r, {"start_factor": r.choice([0.1, 0.5, 1.0]), "end_factor": r.choice([0.0, 0.5, 1.0]), "total_iters": r.choice([1, 4, 20])}),
    }[kind]()
    if hasattr(torchs, kind):
        return kind, params, lambda o: getattr(torchs, kind)(o, **params)
    lr_schedules = of_deepspeed("lr_schedules")
    return kind, params, lambda o: getattr(lr_schedules, kind)(o, **params)


def metric(engine, name):
    value = dsrt.C.c_double()
    dsrt.call("ds_metric", engine.p, dsrt.text(name), dsrt.C.byref(value))
    return value.value


def schedules(r):
    kind, params, peer = schedule(r)
    base = r.choice([0.01, 0.5])
    yield f"{kind} {params}, base rate {base}"
    theirs = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=base, betas=(0.9, 0.999))
    try:
        rates = peer(theirs)
    except Exception as error:
        raise Declined(f"{type(error).__name__}: {str(error)[:80]}")
    engine = engine_of({"type": "Adam", "params": {"lr": base, "betas": [0.9, 0.999]}}, scheduler={"type": kind, "params": params})
    b = batch()
    for step in range(60):
        engine.train(b)
        theirs.param_groups[0]["params"][0].grad = torch.zeros(1)
        theirs.step()
        try:
            rates.step()
        except Exception as error:
            raise Declined(f"{type(error).__name__}: {str(error)[:80]}")
        for name, wanted in (("lr", theirs.param_groups[0]["lr"]), ("momentum", theirs.param_groups[0]["betas"][0])):
            found = metric(engine, name)
            if not abs(found - wanted) <= 1e-9 * abs(wanted) + 1e-15:
                yield f"after step {step}: {name} {found}, not {wanted}"
                return


def scales(r):
    loss_scaler = of_deepspeed("fp16.loss_scaler")
    power, window, hysteresis, consecutive, least = r.choice([0, 3, 10]), r.choice([1, 2, 3, 7]), r.choice([1, 2, 3]), r.random() < 0.5, r.choice([1, 4, 0.25])
    given = {"enabled": True, "initial_scale_power": power, "loss_scale_window": window, "hysteresis": hysteresis, "consecutive_hysteresis": consecutive, "min_loss_scale": least}
    yield f"{given}"
    theirs = loss_scaler.DynamicLossScaler(2.0 ** power, window, least, hysteresis, consecutive, raise_error_at_min_scale=False)
    engine = engine_of({"type": "SGD", "params": {"lr": 0.0}}, fp16=given)
    loss_scaler.dist = types.SimpleNamespace(get_rank=lambda: 1)  # no job is needed to count
    share = r.choice([0.05, 0.3, 0.7])
    b = batch()
    for step in range(40):
        overflow = r.random() < share
        engine.forward(b)
        engine.backward()
        gradient = np.zeros(engine.param(BIAS).shape, np.float32)
        gradient[0] = np.inf if overflow else 0
        g = dsrt.Tensor(gradient)
        dsrt.call("ds_param_set", engine.p, dsrt.text(BIAS), 1, g.p)
        before = metric(engine, "skipped_steps")
        engine.step()
        skipped = metric(engine, "skipped_steps") > before
        # A scale that the loss itself overflows with is no part of this.
        if skipped != overflow:
            raise Declined("the loss overflows by itself")
        theirs.update_scale(overflow)
        if metric(engine, "loss_scale") != theirs.cur_scale:
            yield f"after step {step}: scale {metric(engine, 'loss_scale')}, not {theirs.cur_scale}"
            return


KINDS = {"optimizers": optimizers, "schedules": schedules, "scales": scales}


def main():
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 60
    cases = [tuple(a.split(":")) for a in arguments if ":" in a]
    for kind in [a for a in arguments if ":" not in a] or ([] if cases else KINDS):
        cases += [(kind, i) for i in range(count)]
    tally = Tally()
    if not importlib.util.find_spec("deepspeed"):
        print("SKIPPED loss scales and DeepSpeed's own schedules: there is no deepspeed to compare with")
    for kind, number in cases:
        lines = []
        try:
            lines.extend(KINDS[kind](random.Random(f"{kind}:{number}")))
        except Declined as error:
            tally.leave(f"not comparable: {error}")
            continue
        except dsrt.Error as error:
            lines += [str(error)] if lines else ["", str(error)]
        tally.case(f"{kind}:{number} {lines[0]}", len(lines) < 2, *lines[1:])
    tally.finish()


if __name__ == "__main__":
    main()
