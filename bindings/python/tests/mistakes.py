"""The mistakes of tests/bindings/mistakes.c, in Python."""
import dsrt
from support import config

MODEL = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}


def say(what, call):
    try:
        call()
        print(f"{what}: DS_OK: went well")
    except dsrt.Error as e:
        print(f"{what}: {e.name}: {e}")


class Made:
    pass


made = Made()


def make(name, value):
    setattr(made, name, value())


say("unknown key", lambda: dsrt.Engine({"optimiser": {}}))
say("broken json", lambda: dsrt.Engine('{"model": '))
say("no model", lambda: dsrt.Engine({"model": "no/such/folder"}))
say("no config", lambda: dsrt.Engine("no/such/config.json"))
say("good config", lambda: make("engine", lambda: dsrt.Engine(config(model=MODEL))))
engine = made.engine
say("early backward", engine.backward)
say("early step", engine.step)
say("unknown metric", lambda: engine.metric("speed"))
say("unknown parameter", lambda: engine.parameters["h.7.w"])
say("unknown setting", lambda: engine.set("optimizer.params.lear", 1))
say("bad setting", lambda: engine.set("optimizer.params.lr", "fast"))
say("fixed setting", lambda: engine.set("seed", 1))
say("unknown value", lambda: engine.get("no.such.key"))
say("no checkpoint", lambda: engine.load("no/such/folder"))
say("early output", lambda: engine.output("logits"))
say("bad shape", lambda: dsrt.Tensor.zeros([-2]))
say("tensor", lambda: make("tensor", lambda: dsrt.Tensor([[1, 2, 30]])))
say("batch", lambda: make("batch", dsrt.Batch))
batch = made.batch
say("nothing of that name", lambda: batch["labels"])
say("empty batch", lambda: engine.predict(batch=batch))
say("ids", lambda: batch.update(input_ids=made.tensor))
say("id beyond the vocabulary", lambda: engine.predict(batch=batch))
say("unknown input", lambda: batch.update(colour=made.tensor))
say("unknown input used", lambda: engine.predict(batch=batch))
say("no data", lambda: dsrt.Data(None, {"files": "no/such/rows.csv", "columns": {"text": "review"}}))
say("unknown data option", lambda: dsrt.Data(None, {"file": "rows.csv"}))
say("no tokenizer", lambda: dsrt.Tokenizer("no/such/tokenizer.json"))
say("bad prompt", lambda: engine.generate([99]))
say("bad option", lambda: engine.generate([99], heat=1))
