"""Random small models of every family beside transformers: loss, outputs, gradients and three AdamW steps.

Each case is a family and a number, which seed everything: a config (configs.py), the folder (dtype, shards, names, spelling of config.json), and a
batch (masks, positions, types, lengths). transformers reads that folder too, and answers in f64. What transformers itself declines is counted, what
libdsrt declines must be known to configs.unbuilt. Prints "N passed, N failed".

fuzz.py [CASES a family] [FAMILY | FAMILY:NUMBER ...]
"""
import json
import logging
import pathlib
import random

import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

import configs
import dsrt
from tally import Tally

logging.getLogger("transformers").setLevel(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
ADAM = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-5, "weight_decay": 0.01}
OUTPUTS = ("logits", "last_hidden_state", "encoder_last_hidden_state", "pooler_output", "start_logits", "end_logits")


class Declined(Exception):
    """transformers has no answer."""


def mask_of(r, rows, length):
    """None, or a mask with a token in each row."""
    kind = r.choice(["none", "ones", "right", "left", "holes"])
    if kind == "none":
        return None
    mask = np.ones((rows, length), np.int64)
    for row in mask:
        n = r.randint(1, length)
        if kind == "right":
            row[n:] = 0
        elif kind == "left":
            row[:length - n] = 0
        elif kind == "holes":
            row[:] = [r.random() < 0.7 for _ in range(length)]
            row[r.randrange(length)] = 1
    return mask


def seen(mask, config):
    """Which causal queries have a defined answer. torch's own attention gives those that see no token zeros; what transformers computes itself has no rule for them."""
    if config["model_type"] not in ("gpt_neo", "t5", "mt5"):
        return np.ones(mask.shape, bool)
    window = config.get("window_size", mask.shape[1])
    return np.array([[row[max(0, t - window + 1):t + 1].any() for t in range(len(row))] for row in mask])


def labels_of(r, shape, classes, random_):
    labels = random_.integers(0, classes, shape)
    return np.where(random_.random(shape) < r.choice([0, 0.3, 0.9]), -100, labels)


def batch_for(r, random_, model, config):
    """The batch, and where outputs are defined: name of output -> mask."""
    positions = config.get("max_position_embeddings", config.get("n_positions", 40))
    if "roberta" in config["model_type"] or config["model_type"] == "camembert":  # they begin behind that of padding
        positions -= config["pad_token_id"] + 1
    rows, length = r.randint(1, 4), r.choice([1, 2, r.randint(3, 12), r.randint(3, positions), positions])
    vocabulary = config["vocab_size"]
    batch, defined = {"input_ids": random_.integers(0, vocabulary, (rows, length))}, {}
    mask = mask_of(r, rows, length)
    if "Sequence" in model and "bert" not in config["model_type"] and config.get("pad_token_id") is None:
        mask = None  # transformers reads the last place, masked or not
    if mask is not None:
        batch["attention_mask"] = mask
        if r.random() < 0.7 and config.get("pad_token_id") is not None:
            batch["input_ids"] = np.where(mask == 1, batch["input_ids"], config["pad_token_id"])
    else:
        mask = np.ones((rows, length), np.int64)
    kind = config["model_type"]
    if kind in ("t5", "mt5", "bart", "marian"):
        decoder_batch(r, random_, model, config, batch, defined, rows, positions)
    else:
        encoder = "bert" in kind
        causal = not encoder
        whole = seen(mask, config) if causal else np.ones((rows, length), bool)
        defined.update(logits=whole, last_hidden_state=whole)
        if r.random() < 0.4 and kind not in ("t5", "mt5"):
            places = np.arange(length) + np.zeros((rows, 1), np.int64)
            choice = r.choice(["later", "masked"] if causal and "Sequence" in model else ["later", "masked", "any"])
            if choice == "later" and length < positions:
                places = places + r.randint(0, positions - length)
            elif choice == "masked" and "attention_mask" in batch:
                places = np.maximum(mask.cumsum(-1) - 1, 0)
            elif choice == "any":  # without a mask, decoders take jumps for borders of packed rows
                places = random_.integers(0, positions, (rows, length))
            batch["position_ids"] = places
        if (encoder or kind in ("gpt2", "gpt_neo")) and kind != "distilbert" and r.random() < 0.5:
            batch["token_type_ids"] = random_.integers(0, config.get("type_vocab_size", vocabulary), (rows, length))
        head_labels(r, random_, model, config, batch, whole, causal)
    if r.random() < 0.3:
        batch = {name: value.astype(np.int32 if name != "attention_mask" else np.bool_) if value.dtype == np.int64 else value for name, value in batch.items()}
    return batch, defined


def decoder_batch(r, random_, model, config, batch, defined, rows, positions):
    length, vocabulary = r.choice([1, r.randint(2, 12), min(positions, 24)]), config.get("decoder_vocab_size", config["vocab_size"])
    body = model.endswith("Model") and not model.endswith("MTModel")
    labelled = not body and r.random() < 0.9
    if labelled:
        batch["labels"] = labels_of(r, (rows, length), vocabulary, random_)
    given = not labelled or r.random() < 0.4
    if given:
        batch["decoder_input_ids"] = random_.integers(0, vocabulary, (rows, length))
    mask = mask_of(r, rows, length) if r.random() < 0.4 else None
    whole = np.ones((rows, length), bool)
    if mask is not None:
        batch["decoder_attention_mask"] = mask
        whole = seen(mask, config)
        if labelled:
            batch["labels"] = np.where(whole, batch["labels"], -100)
    defined.update(logits=whole, last_hidden_state=whole)


def head_labels(r, random_, model, config, batch, whole, causal):
    rows, length = whole.shape
    if model.endswith("Model") and not model.endswith("LMHeadModel") or r.random() < 0.1:
        return
    if "QuestionAnswering" in model:
        batch["start_positions"], batch["end_positions"] = random_.integers(0, length + 3, rows), random_.integers(0, length + 3, rows)
    elif "SequenceClassification" in model:
        classes, problem = config["num_labels"], config.get("problem_type")
        floats = problem in ("multi_label_classification",) or (problem is None and classes > 1 and r.random() < 0.3)
        if classes == 1 or problem == "regression":
            batch["labels"] = random_.normal(size=(rows, classes) if classes > 1 else rows).astype(np.float32)
        else:
            batch["labels"] = random_.integers(0, 2, (rows, classes)).astype(np.float32) if floats else random_.integers(0, classes, rows)
    elif "TokenClassification" in model:
        batch["labels"] = labels_of(r, (rows, length), config["num_labels"], random_)
    elif r.random() < 0.5:
        batch["labels"] = labels_of(r, (rows, length), config["vocab_size"], random_)
    else:
        batch["labels"] = np.where(batch.get("attention_mask", np.ones_like(batch["input_ids"])) == 1, batch["input_ids"], -100)
    if causal and "TokenClassification" in model:
        batch["labels"] = np.where(whole, batch["labels"], -100)
    elif causal and "Classification" not in model and "labels" in batch:  # a label is predicted by the position before
        batch["labels"][:, 1:] = np.where(whole[:, :-1], batch["labels"][:, 1:], -100)


def write_folder(r, folder, config_class, model, settings):
    """transformers writes it, then config.json and names are spelled as other versions did."""
    torch.manual_seed(r.randrange(1 << 30))
    try:
        made = getattr(transformers, model)(getattr(transformers, config_class)(**settings))
    except Exception as error:
        raise Declined(f"{type(error).__name__}: {str(error)[:80]}")
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, made.parameters()):  # transformers begins with zero biases and unit scales, which would hide mistakes
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in made.named_buffers():
            if name == "final_logits_bias":
                buffer.add_(torch.randn_like(buffer))
    made.to(getattr(torch, r.choice(["float32", "float32", "float16", "bfloat16"])))
    made.save_pretrained(folder, max_shard_size=r.choice(["1GB", "1GB", "1GB", "20KB"]))
    config = json.loads((folder / "config.json").read_text())
    defaults = getattr(transformers, config_class)().to_dict()
    for key in [key for key in config if key in defaults and config[key] == defaults[key] and r.random() < 0.2 and key not in ("model_type",)]:
        del config[key]
    if r.random() < 0.4:
        config = configs.spelled_as_4(config, r)
    (folder / "config.json").write_text(json.dumps(config))
    if config["model_type"] in ("t5", "mt5") and not config.get("tie_word_embeddings", True) and not model.endswith("T5Model"):
        give_head(folder)
    return rename(r, folder, config, model, made.base_model_prefix)


def give_head(folder):
    from safetensors.torch import load_file, save_file

    for path in sorted(folder.glob("*.safetensors")):
        weights = load_file(path)
        if "shared.weight" in weights:
            weights["lm_head.weight"] = torch.randn_like(weights["shared.weight"])
            save_file(weights, path, metadata={"format": "pt"})
            index = folder / "model.safetensors.index.json"
            if index.exists():
                content = json.loads(index.read_text())
                content["weight_map"]["lm_head.weight"] = path.name
                index.write_text(json.dumps(content))


def rename(r, folder, config, model, prefix):
    """Names of other versions and tools, in a folder of one file."""
    path = folder / "model.safetensors"
    if not path.exists() or r.random() < 0.5:
        return ""
    from safetensors.torch import load_file, save_file

    weights, notes = load_file(path), []
    twice(r, weights, config, notes)
    if r.random() < 0.4 and any(name.startswith(prefix + ".") for name in weights):
        weights = {name.removeprefix(prefix + "."): value for name, value in weights.items()}
        notes.append("no prefix")
    elif r.random() < 0.4 and not any(name.startswith(prefix + ".") for name in weights) and config["model_type"] not in ("t5", "mt5", "mixtral"):
        weights = {f"{prefix}.{name}": value for name, value in weights.items()}
        notes.append("prefix")
    if "bert" in config["model_type"] and r.random() < 0.5:
        weights = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value for name, value in weights.items()}
        notes.append("gamma")
    if r.random() < 0.3:
        weights["something.else"] = torch.ones(3)
        notes.append("more")
    save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata={"format": "pt"})
    return ", ".join(notes)


# Table, and the names of what is tied to it.
TIED = {"gpt2": ("transformer.wte.weight", ["lm_head.weight"]), "gpt_neo": ("transformer.wte.weight", ["lm_head.weight"]), "gptj": ("transformer.wte.weight", ["lm_head.weight"]), "opt": ("model.decoder.embed_tokens.weight", ["lm_head.weight"]), "gpt_neox": ("gpt_neox.embed_in.weight", ["embed_out.weight"]),
        "t5": ("shared.weight", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]), "bert": ("bert.embeddings.word_embeddings.weight", ["cls.predictions.decoder.weight"]),
        "distilbert": ("distilbert.embeddings.word_embeddings.weight", ["vocab_projector.weight"]),
        "bart": ("model.shared.weight", ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"])}
TIED["mt5"] = TIED["t5"]
TIED |= dict.fromkeys(["roberta", "xlm-roberta", "camembert"], ("roberta.embeddings.word_embeddings.weight", ["lm_head.decoder.weight"]))


def twice(r, weights, config, notes):
    """Tools keep a tied tensor under several of its names, or under another than transformers does."""
    table, others = TIED.get(config["model_type"], ("model.embed_tokens.weight", ["lm_head.weight"]))
    if table not in weights or any(name in weights for name in others) or not config.get("tie_word_embeddings", True) or r.random() < 0.5:
        return
    if "bert" in config["model_type"] and others[0].rsplit(".", 1)[0] + ".bias" not in weights and not any(name.endswith((".predictions.bias", "lm_head.bias")) for name in weights) or table.replace("model.", "") in weights or not config["architectures"][0].endswith(("LMHeadModel", "ForCausalLM", "ForMaskedLM", "Generation")):
        return
    for name in r.sample(others, r.randint(1, len(others))):
        weights[name] = weights[table].clone()
        notes.append(f"{name} too")
    if r.random() < 0.4:
        del weights[table]
        notes.append(f"no {table}")


class Theirs:
    def __init__(self, folder, model):
        plain = {"experts_implementation": "eager"} if "Mixtral" in model or "Moe" in model else {}
        try:
            self.model = getattr(transformers, model).from_pretrained(folder, dtype=torch.float32, **plain).double().eval()
        except Exception as error:
            raise Declined(f"{type(error).__name__}: {str(error)[:80]}")
        self.model.config.use_cache = False  # with a cache jumps of position_ids would not be borders
        if "Marian" in model:  # transformers 5 saves the computed positions with the weights, and reads what the folder's type left of them; libdsrt computes them
            fresh = dict(type(self.model)(self.model.config).named_parameters())
            for name, parameter in self.model.named_parameters():
                if "embed_positions" in name:
                    parameter.requires_grad_(False).data = fresh[name].data.double()
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=ADAM["lr"], betas=ADAM["betas"], eps=ADAM["eps"], weight_decay=ADAM["weight_decay"])

    def run(self, batch):
        tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
        for name, value in tensors.items():
            tensors[name] = value.double() if value.is_floating_point() else value.long() if value.dtype == torch.int32 else value
        try:
            return self.model(**tensors)
        except Exception as error:
            raise Declined(f"{type(error).__name__}: {str(error)[:80]}")

    def tensors(self, of):
        """By the names of a folder."""
        out = {}
        tied, named = self.model._tied_weights_keys or {}, dict(self.model.named_parameters())
        for name, parameter in named.items():
            if not parameter.requires_grad:
                continue
            if name in tied and tied[name] not in named:  # some families list the head first
                name = tied[name]
            if name == "lm_head.weight" and self.model.config.model_type == "gpt_neox":
                name = "embed_out.weight"
            value = of(parameter)
            value = None if value is None else value.detach().numpy().copy()
            mixtral = self.model.config.model_type == "mixtral"
            gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
            if mixtral and (".mlp.experts." in name or ".mlp.gate." in name):
                name = name.replace(".mlp.", ".block_sparse_moe.")
            if "experts.gate_up_proj" in name or "experts.down_proj" in name:
                for e in range(parameter.shape[0]):
                    one = None if value is None else value[e]
                    base = name.rsplit(".", 1)[0] + f".{e}."
                    if "down_proj" in name:
                        out[base + f"{down}.weight"] = one
                    else:
                        half = parameter.shape[1] // 2
                        out[base + f"{gate}.weight"], out[base + f"{up}.weight"] = (None, None) if one is None else (one[:half], one[half:])
            else:
                out[name] = value
        return out


class Case:
    def __init__(self, family, number):
        self.name = f"{family}:{number}"
        self.family, self.number = family, number
        self.problems, self.worst = [], 0.0
        self.about = ""

    def close(self, what, ours, exact, bound, floor=0.0):
        """floor: an error that the size of other values makes likely."""
        exact = np.asarray(exact, np.float64)
        ours = np.asarray(ours, np.float64)
        if ours.shape != exact.shape:
            self.problems.append(f"{what}: is {ours.shape}, not {exact.shape}")
            return
        size, error = float(np.linalg.norm(exact)), float(np.linalg.norm(ours - exact))
        if not error <= bound * size + floor:
            self.problems.append(f"{what}: relative error {error / max(size, 1e-30):.2e}, bound {bound:.0e}; size {size:.1e}")

    def run(self, work):
        r, random_ = random.Random(self.name), np.random.default_rng([self.number, len(self.family), ord(self.family[0])])
        config_class, settings, heads = configs.FAMILIES[self.family](r)
        model = r.choice(heads)
        drops = [key for key in configs.DROPOUTS.get(self.family, ["attention_dropout"]) if r.random() < 0.5] if r.random() < 0.15 else []
        settings.update({key: 0.1 for key in drops})
        folder = work / "folder"
        notes = write_folder(r, folder, config_class, model, settings)
        self.unbuilt = configs.unbuilt(settings)
        theirs = Theirs(folder, model)
        config = dict(theirs.model.config.to_dict(), num_labels=theirs.model.config.num_labels)
        batch, defined = batch_for(r, random_, model, config)
        shown = {key: value for key, value in settings.items()}
        self.about = f"{model} {shown} [{notes}] batch " + ", ".join(f"{name} {value.shape}" for name, value in batch.items())
        with torch.no_grad():
            exact = theirs.run(batch)
        outputs = [name for name in OUTPUTS if name in exact.keys() and exact[name] is not None]
        engine = dsrt.Engine({"model": str(folder), "train_batch_size": batch["input_ids"].shape[0], "gradient_clipping": 0, "threads": 1, "logger": {"default_verbosity": "ERROR"}, "outputs": outputs, "optimizer": {"type": "AdamW", "params": ADAM}})
        ours = dsrt.Batch(**batch)
        labelled = "loss" in exact.keys() and exact["loss"] is not None
        loss = engine.eval(ours, labelled)
        if labelled and np.isfinite(float(exact["loss"])):
            self.close(f"loss {loss} and {float(exact['loss'])}", loss, float(exact["loss"]), 1e-5)
        for output in outputs:
            value, found = exact[output].numpy(), engine.output(output)
            if output in defined and value.ndim == 3 and value.shape[:2] == defined[output].shape and found.shape == value.shape:
                value, found = value[defined[output]], found[defined[output]]
            self.close(f"output {output}", found, value, 1e-5)
        if outputs[0] == "logits" and theirs.model.can_generate() and r.random() < 0.5:
            self.generate(r, engine, theirs, batch)
        if labelled and np.isfinite(float(exact["loss"])) and not drops:
            self.train(engine, ours, theirs, batch)

    def generate(self, r, engine, theirs, batch):
        """Greedy ids, as long as there is no doubt which."""
        prompt = [int(i) for i in batch["input_ids"][0]][:r.randint(1, 20)]
        config = theirs.model.config
        ids, start = list(prompt), [config.decoder_start_token_id] if config.is_encoder_decoder else []
        made = []
        most = getattr(config, "max_position_embeddings", 40)
        if "longrope" in str(rope := getattr(config, "rope_parameters", None)):  # the angles that change there are not built
            most = rope.get("full_attention", rope)["original_max_position_embeddings"] + 1
        for _ in range(min(6, most - len(ids) - len(start))):
            parts = {"input_ids": np.array([ids])} if not start else {"input_ids": np.array([ids]), "decoder_input_ids": np.array([start + made])}
            with torch.no_grad():
                best = theirs.run(parts).logits[0, -1].topk(2)
            if best.values[0] - best.values[1] < 1e-3 * best.values[0].abs():
                break
            made.append(int(best.indices[0]))
            ids = ids if start else ids + made[-1:]
        found = engine.generate([prompt], {"max_new_tokens": len(made), "eos_token_id": -1, "forced_eos_token_id": -1, "forced_bos_token_id": -1})[0] if made else []
        if found != made:
            self.problems.append(f"generates {found} after {prompt}, not {made}")

    def train(self, engine, ours, theirs, batch):
        names = set(engine.params())
        for step in range(3):
            theirs.adam.zero_grad()
            exact = theirs.run(batch).loss
            exact.backward()
            loss = engine.forward(ours)
            engine.backward()
            self.close(f"step {step}: loss {loss} and {float(exact.detach())}", loss, float(exact.detach()), 5e-3 if step else 1e-5, 1e-5 if step else 0)
            if step == 0:
                gradients = theirs.tensors(lambda p: p.grad)
                if names != set(gradients):
                    self.problems.append(f"parameters: only ours {sorted(names - set(gradients))}, only theirs {sorted(set(gradients) - names)}")
                largest = max(np.linalg.norm(value) for value in gradients.values() if value is not None)
                for name in sorted(names & set(gradients)):
                    value = gradients[name]
                    self.close(f"gradient of {name}", engine.param(name, 1), np.zeros(engine.param(name).shape) if value is None else value, 1e-4, 1e-6 * largest)
            theirs.adam.step()
            engine.step()
        for name, value in theirs.tensors(lambda p: p).items():
            # AdamW magnifies what is uncertain of elements near its eps: of three moves by lr, a fiftieth.
            if name in names and gradients[name] is not None and np.abs(gradients[name]).max() > 1e-3:
                self.close(f"weight {name} after three steps", engine.param(name), value, 1e-3, 0.02 * 3 * ADAM["lr"] * np.sqrt(value.size))


def main():
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 25
    cases = [Case(a.split(":")[0], int(a.split(":")[1])) for a in arguments if ":" in a]
    for family in [a for a in arguments if ":" not in a] or ([] if cases else list(configs.FAMILIES)):
        cases += [Case(family, i) for i in range(count)]
    tally = Tally()
    for case in cases:
        with tempfile.TemporaryDirectory() as work:
            try:
                case.run(pathlib.Path(work))
            except Declined as error:
                tally.leave(f"not comparable: transformers: {error}")
                continue
            except dsrt.Error as error:
                known = [key for key in case.unbuilt if key in str(error)]
                if known and "UNSUPPORTED" in str(error):
                    tally.leave(f"refused by name: {known[0]}")
                    continue
                case.problems.append(str(error))
        tally.case(f"{case.name}: {case.about}", not case.problems, *case.problems[:6])
    tally.finish()


if __name__ == "__main__":
    main()
