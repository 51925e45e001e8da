"""Engines: a model, its optimizer and its schedule, trained with DeepSpeed's semantics."""
from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Sequence, Union

from . import native
from .errors import InvalidArgumentError, StateError
from .graph import Graph
from .library import json_text, path_text, text
from .tensor import BatchLike, Tensor, TensorLike, as_batch, integers

if TYPE_CHECKING:
    from .data import Data
    from .tokenizer import Tokenizer

Config = Union[str, os.PathLike, dict, None]


class Outcome(enum.IntEnum):
    """What a step came to: UPDATED, SKIPPED (an fp16 gradient overflowed), PENDING (more micro-batches are needed), END (of the data)."""

    UPDATED, SKIPPED, PENDING, END = range(4)


class Step(NamedTuple):
    """One step of train_batch."""

    number: int
    loss: float
    outcome: Outcome


class Cancel:
    """A switch that any thread may set: running calls of the engines it was given to end with errors.Cancelled."""

    def __init__(self) -> None:
        self._native = native.Cancel()

    def set(self, on: bool = True) -> None:
        self._native.set(on)


class Optimizer:
    """An optimizer of the host's own. Override update(); weight, gradient and state are numpy arrays on the library's memory, of one span of
    a parameter, to be changed in place and not to be kept. state has shape [n, state_per_element], zeros at first, and is checkpointed."""

    state_per_element = 0

    def update(self, parameter: str, step: int, lr: float, weight: Any, gradient: Any, state: Any) -> None:
        raise NotImplementedError

    def _call(self, parameter: str, step: int, lr: float, weight: memoryview, gradient: memoryview, state: memoryview) -> None:
        import numpy
        w, g, s = (numpy.frombuffer(m, numpy.float32) for m in (weight, gradient, state))
        self.update(parameter, step, lr, w, g, s.reshape(w.size, self.state_per_element))


def _options(graph: Graph | None, cancel: Cancel | None, optimizer: Optimizer | None, mpi_comm: int | None) -> native.Options | None:
    if graph is None and cancel is None and optimizer is None and mpi_comm is None:
        return None
    options = native.Options()
    if graph is not None:
        options.set_graph(graph._native)
    if cancel is not None:
        options.set_cancel(cancel._native)
    if optimizer is not None:
        options.set_optimizer((optimizer.state_per_element, optimizer._call))
    if mpi_comm is not None:
        options.set_mpi(mpi_comm)
    return options


def _config(config: Config) -> str | None:
    return json.dumps(config) if isinstance(config, dict) else None if config is None else path_text(config, "config")


def plan(config: Config = None, *, graph: Graph | None = None) -> dict[str, Any]:
    """What a run would need: memory by kind, FLOPs, traffic, timetable. Runs nothing."""
    return json.loads(native.Engine.plan(_config(config), _options(graph, None, None, None)))


def _moment(which: int) -> int:
    if which not in (1, 2):
        raise InvalidArgumentError(f"which must be 1 or 2, the first or second moment, but is {which!r}")
    return 1 + which


class Parameters(Mapping):
    """An engine's parameters by the names of model.safetensors: engine.parameters[name] is the weight, and may be assigned."""

    def __init__(self, engine: Engine):
        self._engine = engine
        listed = engine._native.parameters()
        self._known = {listed.name(i): (tuple(listed.shape(i)), listed.trainable(i)) for i in range(listed.count())}

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> Tensor:
        return self._get(name, 0)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __setitem__(self, name: str, value: TensorLike) -> None:
        self._put(name, 0, value)

    def _get(self, name: str, what: int) -> Tensor:
        return Tensor(self._engine._native.get_param(text("name", name), what))

    def _put(self, name: str, what: int, value: TensorLike) -> None:
        self._engine._native.put_param(text("name", name), what, (value if isinstance(value, Tensor) else Tensor(value))._native)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._known[name][0]

    def trainable(self, name: str) -> bool:
        return self._known[name][1]

    def grad(self, name: str) -> Tensor:
        """What an update now would apply, before clipping."""
        return self._get(name, 1)

    def set_grad(self, name: str, value: TensorLike) -> None:
        self._put(name, 1, value)

    def moment(self, name: str, which: int = 1) -> Tensor:
        """The optimizer's first or second moment."""
        return self._get(name, _moment(which))

    def set_moment(self, name: str, value: TensorLike, which: int = 1) -> None:
        self._put(name, _moment(which), value)


class Engine:
    """Engine(config): a dict, JSON text, or the path of a JSON file; None: what DSRT_CONFIG or DEEPSPEED_CONFIG holds.

    One step by hand: loss = engine.forward(input_ids=ids, labels=ids); engine.backward(); engine.step()
    """

    def __init__(self, config: Config = None, *, graph: Graph | None = None, cancel: Cancel | None = None, optimizer: Optimizer | None = None,
                 mpi_comm: int | None = None):
        self._native = native.Engine(_config(config), _options(graph, cancel, optimizer, mpi_comm))

    def forward(self, batch: BatchLike | None = None, **tensors: TensorLike) -> float:
        """Runs one micro-batch in training mode; the mean loss over unignored labels."""
        return self._native.forward(as_batch(batch, tensors))

    def forward_only(self, batch: BatchLike | None = None, **tensors: TensorLike) -> None:
        """forward without waiting for a loss, or without labels."""
        self._native.forward_only(as_batch(batch, tensors))

    def backward(self, gradients: BatchLike | None = None, **by_output: TensorLike) -> None:
        """The gradient of the last forward's loss; or, where gradients are given by output name, that of a loss of the host's own."""
        if gradients is None and not by_output:
            self._native.backward()
        else:
            self._native.backward_from(as_batch(gradients, by_output))

    def step(self) -> Outcome:
        return Outcome(self._native.update())

    def zero_grad(self) -> None:
        self._native.zero_grad()

    def train_batch(self, data: Data) -> Step | None:
        """Forward, backward and step over one global batch; None at the end of an epoch."""
        done = self._native.train(data._native)
        if done.outcome == Outcome.END:
            return None
        return Step(int(self.metric("global_steps")), done.loss, Outcome(done.outcome))

    def steps(self, data: Data, count: int | None = None) -> Iterator[Step]:
        """Trains while it is iterated: to the end of the epoch, or `count` steps over as many epochs as that takes."""
        done, began = 0, None  # began: how many steps were done when the epoch began
        while count is None or done < count:
            step = self.train_batch(data)
            if step is None:
                if count is None:
                    return
                if began == done:
                    raise StateError(f"an epoch of the data has no batch: {done} of {count} steps are done")
                began = done
                continue
            done += 1
            yield step

    def eval(self, batch: BatchLike | None = None, **tensors: TensorLike) -> float:
        """The loss without dropout; a pending forward and gradients stay."""
        return self._native.eval(as_batch(batch, tensors))

    def predict(self, *outputs: str, batch: BatchLike | None = None, **tensors: TensorLike) -> Any:
        """Outputs without dropout, labels or loss: one tensor, or a tuple where more names are given. Without names: logits."""
        for name in outputs:
            if not isinstance(name, str):
                raise TypeError(f"outputs are named by str, not {type(name).__name__}; a batch is given as batch=")
        self._native.eval_only(as_batch(batch, tensors))
        found = tuple(self.output(name) for name in outputs or ("logits",))
        return found[0] if len(found) == 1 else found

    def output(self, name: str) -> Tensor:
        """An output of the later of the last forward and the last eval, a snapshot."""
        return Tensor(self._native.output(text("name", name)))

    def metric(self, name: str) -> float:
        """loss, lr, grad_norm, global_steps, tokens_per_second, peak_bytes ... at any time, on any thread."""
        return self._native.metric(text("name", name))

    def set(self, key: str, value: Any) -> None:
        """Changes at run time what can be: "optimizer.params.lr", "gradient_clipping", "scheduler" ..."""
        self._native.set_json(text("key", key), json.dumps(value))

    def get(self, key: str = "") -> Any:
        """The effective value of a key; "" is the whole effective config."""
        return json.loads(self._native.get_json(text("key", key)))

    @property
    def config(self) -> dict[str, Any]:
        return self.get("")

    @property
    def parameters(self) -> Parameters:
        return Parameters(self)

    def save(self, folder: str | os.PathLike[str], tag: str | None = None, **options: Any) -> None:
        """A checkpoint. Options: client_state, weights_only, async_ (writes in the background)."""
        if "async_" in options:
            options["async"] = options.pop("async_")
        self._native.save(path_text(folder, "folder"), None if tag is None else text("tag", tag), json_text(options or None))

    def load(self, folder: str | os.PathLike[str], tag: str | None = None, **options: Any) -> Any:
        """Loads a checkpoint, the latest without a tag; the client_state that was saved with it."""
        self._native.load(path_text(folder, "folder"), None if tag is None else text("tag", tag), json_text(options or None))
        return self.get("client_state")

    def export(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """A Hugging Face folder: config.json, model.safetensors, tokenizer files."""
        self._native.export_folder(path_text(folder, "folder"), json_text(options or None))

    def report(self, path: str | os.PathLike[str], contents: Any = None) -> None:
        """A self-contained report.html: curves, memory plan, timeline."""
        self._native.report(path_text(path), json_text(contents, "contents"))

    def generate(self, prompt: Sequence[int], on_token: Callable[[list[int]], Any] | None = None, **options: Any) -> list[int]:
        """Continues a prompt; the new ids. Options: max_new_tokens, temperature, top_k, top_p, seed, eos_id.
        on_token(ids) hears of them as they come; False stops, an exception comes out of this call."""
        return list(self._native.continue_prompt(integers("prompt", prompt), json_text(options or None), on_token))

    def generate_batch(self, prompts: Sequence[Sequence[int]], on_tokens: Callable[[int, list[int]], Any] | None = None, **options: Any) -> list[list[int]]:
        """The same for several prompts at once, of any lengths, which is much faster than one by one; the new ids of each.
        on_tokens(row, ids): False ends that row, an exception comes out of this call."""
        rows = [integers(f"prompts[{i}]", prompt) for i, prompt in enumerate(prompts)]
        return [list(row) for row in self._native.continue_prompts(rows, json_text(options or None), on_tokens)]

    def generate_text(self, tokenizer: Tokenizer, prompt: str, on_text: Callable[[str], Any] | None = None, add_special_tokens: bool = True,
                      **options: Any) -> str:
        """From text to text. on_text(piece) hears of the new text as it becomes certain, in whole characters; False stops.
        add_special_tokens=False where the prompt has them already, as a chat template's text."""
        pieces: list[str] = []
        on = True

        def heard(piece: str) -> bool:
            nonlocal on
            pieces.append(piece)
            if on and on_text and piece:
                on = on_text(piece) is not False
            return on

        stream = tokenizer.stream()
        self.generate(tokenizer.encode(prompt, add_special_tokens=add_special_tokens).ids, lambda ids: heard(stream.put(ids)), **options)
        heard(stream.end())
        return "".join(pieces)

    def evaluate(self, data: Any = None, **options: Any) -> dict[str, Any]:
        """The scores of the model's task on rows: data as in Data, None: what the config's split keeps from training."""
        return json.loads(self._native.evaluate(json_text(data, "data"), json_text(options or None)))

    def close(self) -> None:
        """Frees threads, memory, files and the host's optimizer; later calls raise. Cancels a call that runs on another thread."""
        self._native.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
