"""Models that the host builds out of ops."""
from __future__ import annotations

import json
from typing import Any, Sequence

from . import native
from .library import json_text, path_text
from .tensor import DType


class Graph:
    """A computation over values, which are numbers. graph.op("matmul", x, w) makes one; -1 in an input's shape is bound at run time, the
    first to rows, the second to length. `dsrt.Graph.ops()` lists ops, inputs, outputs and attributes."""

    Value = int

    def __init__(self) -> None:
        self._native = native.Graph()

    @classmethod
    def parse(cls, text: str) -> Graph:
        """Reads the text form, the one that DSRT_DUMP writes."""
        graph = cls.__new__(cls)
        graph._native = native.Graph.parse(text)
        return graph

    @staticmethod
    def ops() -> Any:
        return json.loads(native.Graph.ops_json())

    def input(self, name: str, dtype: DType, shape: Sequence[int]) -> Value:
        return self._native.add_input(name, int(dtype), tuple(shape))

    def param(self, name: str, shape: Sequence[int], init: Any = None, dtype: DType = DType.FLOAT32) -> Value:
        """init: {"type": "zeros" | "ones"}, {"type": "normal", "std": s} or {"type": "uniform", "bound": b}."""
        return self._native.add_param(name, int(dtype), tuple(shape), json_text(init))

    def op(self, name: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """One value, or a tuple where `outputs` asks for more."""
        made = self._native.ops(name, list(inputs), json_text(attributes or None), outputs)
        return made[0] if outputs == 1 else tuple(made)

    def model(self, folder: str, inputs: Sequence[Value], output: str, **options: Any) -> Value:
        """Embeds a model family's body: its output of the given input_ids, attention_mask, token_type_ids, position_ids (-1: absent)."""
        return self._native.model(path_text(folder), list(inputs), output, json_text(options or None))

    def output(self, name: str, value: Value) -> None:
        self._native.output(name, value)

    def loss(self, value: Value) -> None:
        self._native.loss(value)
