"""Models that the host builds out of ops."""
from __future__ import annotations

import json
from typing import Any, Sequence

from . import native
from .library import json_text, path_text
from .library import text as utf8
from .tensor import DType


class Op:
    """An op of the host's own, for Graph.define_op. Override forward(), backward() where it has a gradient, and shapes() where outputs are not
    shaped as the first input. Values are numpy arrays on the library's memory: outputs and gradients are to be written in place, and none is
    to be kept. Inputs are float32 (ids int32, masks uint8), outputs and gradients float32; a gradient that nobody wants is None.
    `attributes` are those that graph.op() or the text gave."""

    outputs = 1

    def shapes(self, inputs: Sequence[tuple[int, ...]], **attributes: Any) -> Sequence[Sequence[int]]:
        """The outputs' shapes. While a graph is built, rows and length are large numbers: hand them on, or their products, as they are."""
        return [inputs[0]] * self.outputs

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any], **attributes: Any) -> None:
        raise NotImplementedError

    def backward(self, inputs: Sequence[Any], outputs: Sequence[Any], output_gradients: Sequence[Any], input_gradients: Sequence[Any],
                 **attributes: Any) -> None:
        raise NotImplementedError

    def _functions(self) -> tuple[Any, ...]:
        def arrays(values: Any) -> list[Any]:
            import numpy
            types = {int(DType.FLOAT32): numpy.float32, int(DType.INT32): numpy.int32, int(DType.UINT8): numpy.uint8}
            return [None if memory is None else numpy.frombuffer(memory, types[dtype]).reshape(shape) for memory, dtype, shape in values]

        def forward(attributes: str, *lists: Any) -> None:
            self.forward(*map(arrays, lists), **json.loads(attributes))

        def backward(attributes: str, *lists: Any) -> None:
            self.backward(*map(arrays, lists), **json.loads(attributes))

        def shapes(attributes: str, values: Any) -> Any:
            return self.shapes([shape for _, _, shape in values], **json.loads(attributes))

        differentiable = type(self).backward is not Op.backward
        return self.outputs, forward, backward if differentiable else None, shapes


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
        graph._native = native.Graph.parse(utf8("text", text))
        return graph

    @staticmethod
    def ops() -> Any:
        return json.loads(native.Graph.ops_json())

    def input(self, name: str, dtype: DType, shape: Sequence[int]) -> Value:
        return self._native.add_input(utf8("name", name), int(dtype), tuple(shape))

    def param(self, name: str, shape: Sequence[int], init: Any = None, dtype: DType = DType.FLOAT32) -> Value:
        """init: {"type": "zeros" | "ones"}, {"type": "normal", "std": s} or {"type": "uniform", "bound": b}."""
        return self._native.add_param(utf8("name", name), int(dtype), tuple(shape), json_text(init, "init"))

    def op(self, name: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """One value, or a tuple where `outputs` asks for more."""
        made = self._native.ops(utf8("name", name), list(inputs), json_text(attributes or None), outputs)
        return made[0] if outputs == 1 else tuple(made)

    def define_op(self, name: str, op: Op) -> None:
        """From now on `name` is an op of this graph, for op() and read(). What its methods raise comes out of the call that ran them."""
        self._native.define_op(utf8("name", name), op._functions())

    def read(self, text: str) -> None:
        """Reads the text form into this graph, which has no value yet but may have ops of the host's own."""
        self._native.read(utf8("text", text))

    def model(self, folder: str, inputs: Sequence[Value], output: str, **options: Any) -> Value:
        """Embeds a model family's body: its output of the given input_ids, attention_mask, token_type_ids, position_ids (-1: absent)."""
        return self._native.model(path_text(folder, "folder"), list(inputs), utf8("output", output), json_text(options or None))

    def output(self, name: str, value: Value) -> None:
        self._native.output(utf8("name", name), value)

    def loss(self, value: Value) -> None:
        self._native.loss(value)

    def close(self) -> None:
        """Frees it; its ops too, once no engine has them."""
        self._native.close()
