"""Tensors and batches, and their exchange with numpy, torch and other DLPack speakers."""
from __future__ import annotations

import enum
import math
import numbers
import operator
from typing import Any, Iterable, Mapping, Sequence, Union

from . import native
from .library import text


class DType(enum.IntEnum):
    """Element types. FLOAT16 is IEEE's, BFLOAT16 the upper half of a float32."""

    FLOAT32, FLOAT16, BFLOAT16, FLOAT64, INT32, INT64, UINT8, BOOL, INT8, FLOAT8_E4M3, FLOAT8_E5M2 = range(11)


_NUMPY = {DType.FLOAT32: "<f4", DType.FLOAT16: "<f2", DType.FLOAT64: "<f8", DType.INT32: "<i4", DType.INT64: "<i8", DType.UINT8: "|u1",
          DType.BOOL: "|b1", DType.INT8: "|i1"}
_BUFFER = {"f": DType.FLOAT32, "e": DType.FLOAT16, "d": DType.FLOAT64, "i": DType.INT32, "l": DType.INT64, "q": DType.INT64, "B": DType.UINT8,
           "?": DType.BOOL, "b": DType.INT8}


class _Lent:
    """Memory of a tensor with a life of its own, in the form that numpy reads."""

    def __init__(self, owner: native.View, dtype: DType, shape: tuple[int, ...]):
        self._owner = owner
        self.__array_interface__ = {"version": 3, "typestr": _NUMPY[dtype], "shape": shape, "data": (owner.address(), owner.read_only())}


def _from_dlpack(source: Any) -> native.Tensor:
    try:
        capsule = source.__dlpack__(max_version=(1, 3))
    except TypeError:  # DLPack before 1.0
        capsule = source.__dlpack__()
    take = native.Tensor.from_dlpack if '"dltensor_versioned"' in repr(capsule) else native.Tensor.from_dlpack_legacy
    return take(capsule)


def _from_buffer(source: Any) -> native.Tensor:
    view = memoryview(source)
    if view.format.lstrip("@=<") not in _BUFFER:
        raise TypeError(f"dsrt.Tensor: elements of format {view.format!r} are not known; accepted: {', '.join(_BUFFER)}")
    return native.Tensor(int(_BUFFER[view.format.lstrip("@=<")]), tuple(view.shape), view if view.c_contiguous else view.tobytes())


def _from_values(values: Any, dtype: DType | None) -> native.Tensor:
    """Numbers in nested sequences: integers become int64, others float32."""
    shape, level = [], values
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else None
    flat = [values]
    for size in shape:
        if any(not isinstance(v, (list, tuple)) or len(v) != size for v in flat):
            raise ValueError("dsrt.Tensor: rows of different lengths")
        flat = [x for row in flat for x in row]
    import array
    whole = all(isinstance(x, numbers.Integral) for x in flat)
    made = native.Tensor(int(DType.INT64 if whole else DType.FLOAT32), tuple(shape), array.array("q" if whole else "f", flat))
    return made if dtype is None or dtype == made.kind() else _converted(made, dtype)


def _converted(t: native.Tensor, dtype: DType) -> native.Tensor:
    sizes = {DType.FLOAT16: 2, DType.BFLOAT16: 2, DType.FLOAT64: 8, DType.INT64: 8, DType.UINT8: 1, DType.BOOL: 1, DType.INT8: 1,
             DType.FLOAT8_E4M3: 1, DType.FLOAT8_E5M2: 1}
    out = bytearray(t.count() * sizes.get(dtype, 4))
    t.copy_out(int(dtype), out)
    return native.Tensor(int(dtype), t.shape(), out)


class Tensor:
    """A dense row-major array.

    Tensor(x) takes anything with __dlpack__ (numpy, torch, jax ...) without a copy, else anything with the buffer protocol, else numbers in
    nested lists. numpy.asarray(t), numpy.from_dlpack(t), torch.from_dlpack(t) see its memory without a copy, and keep it alive.
    The library never writes to memory that came in. Batches keep what it held when it was put there.
    """

    __slots__ = ("_native",)

    def __init__(self, values: Any, dtype: DType | None = None):
        if isinstance(values, native.Tensor):
            self._native = values
            return
        self._native = None
        if hasattr(values, "__dlpack__"):
            try:
                self._native = _from_dlpack(values)
            except (BufferError, TypeError):  # numpy refuses read-only arrays and kinds that its DLPack lacks
                if not hasattr(values, "__array_interface__"):
                    raise
        if self._native is None:
            try:
                memoryview(values)
            except TypeError:
                self._native = _from_values(values, dtype)
            else:
                self._native = _from_buffer(values)
        if dtype is not None and dtype != self.dtype:
            self._native = _converted(self._native, DType(dtype))

    @classmethod
    def zeros(cls, shape: Sequence[int], dtype: DType = DType.FLOAT32) -> Tensor:
        return cls(native.Tensor(int(dtype), tuple(shape)))

    @property
    def dtype(self) -> DType:
        return DType(self._native.kind())

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._native.shape())

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self._native.count()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of one number has no length")
        return self.shape[0]

    def astype(self, dtype: DType) -> Tensor:
        """A copy, converted as a C cast does."""
        return Tensor(_converted(self._native, DType(dtype)))

    def numpy(self) -> Any:
        """An array of numpy on the same memory; bfloat16 and 8-bit floats, which numpy lacks, as a float32 copy."""
        import numpy
        source = self if self.dtype in _NUMPY else self.astype(DType.FLOAT32)
        return numpy.asarray(_Lent(native.View(source._native), source.dtype, source.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy
        array = self.numpy()
        wanted = array.dtype if dtype is None else numpy.dtype(dtype)
        if copy is False and (wanted != array.dtype or self.dtype not in _NUMPY):
            raise ValueError(f"a tensor of {self.dtype.name.lower()} can't be an array of {wanted} without a copy")
        return array.astype(wanted, copy=bool(copy))

    def tolist(self) -> Any:
        import array
        integer = self.dtype in (DType.INT32, DType.INT64, DType.UINT8, DType.INT8, DType.BOOL)
        flat: list[Any] = array.array("q" if integer else "d", bytes(8 * self.size)) if self.size else array.array("d")
        if self.size:
            self._native.copy_out(int(DType.INT64 if integer else DType.FLOAT64), flat)
        values = list(flat)
        shape = self.shape
        for d in range(len(shape) - 1, 0, -1):
            rows = math.prod(shape[:d])
            values = [values[r * shape[d]:(r + 1) * shape[d]] for r in range(rows)]
        return values if shape else values[0]

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError(f"a tensor of {self.size} numbers is not one number")
        value = self.tolist()
        while isinstance(value, list):
            value = value[0]
        return value

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        if copy:
            return Tensor(_converted(self._native, self.dtype)).__dlpack__(max_version=max_version)
        return self._native.to_dlpack() if max_version and max_version[0] >= 1 else self._native.to_dlpack_legacy()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU

    def __repr__(self) -> str:
        return f"dsrt.Tensor(shape={self.shape}, dtype={self.dtype.name.lower()})"


def integers(name: str, values: Any) -> list[int]:
    """Whole numbers of any kind; anything else is an error that names the argument."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} must be integers, not {type(values).__name__}: encode text with a tokenizer")
    try:
        return [operator.index(v) for v in values]
    except TypeError as e:
        raise TypeError(f"{name} must be integers: {e}") from None


TensorLike = Union[Tensor, Sequence, Any]
BatchLike = Union["Batch", Mapping[str, TensorLike]]
# What files and tokenizers give.
_KNOWN = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", "start_positions", "end_positions", "decoder_input_ids",
          "decoder_attention_mask")


class Batch:
    """Named tensors, by Hugging Face's names: input_ids, attention_mask, labels ... Works like a dict, but has no list of its names."""

    __slots__ = ("_native", "_names")

    def __init__(self, tensors: Mapping[str, TensorLike] | Iterable[tuple[str, TensorLike]] = (), **more: TensorLike):
        self._native = native.Batch()
        self._names: set[str] = set()
        self.update(tensors, **more)

    @classmethod
    def _of(cls, made: native.Batch, names: Iterable[str] = _KNOWN) -> Batch:
        """names: those that it may have."""
        batch = cls.__new__(cls)
        batch._native, batch._names = made, set(names)
        return batch

    def _items(self) -> list[tuple[str, Tensor]]:
        return [(name, self[name]) for name in sorted(self._names) if name in self]

    def update(self, tensors: Mapping[str, TensorLike] | Iterable[tuple[str, TensorLike]] = (), **more: TensorLike) -> None:
        for name, value in dict(tensors, **more).items():
            self[name] = value

    def __setitem__(self, name: str, value: TensorLike) -> None:
        self._native.put(text("name", name), (value if isinstance(value, Tensor) else Tensor(value))._native)
        self._names.add(name)

    def __getitem__(self, name: str) -> Tensor:
        return Tensor(self._native.get(text("name", name)))

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __contains__(self, name: object) -> bool:
        from .errors import NotFoundError
        try:
            self[name]  # type: ignore[index]
        except NotFoundError:
            return False
        return True


def as_batch(batch: BatchLike | None, tensors: Mapping[str, TensorLike]) -> native.Batch:
    if isinstance(batch, Batch) and not tensors:
        return batch._native
    if isinstance(batch, Batch):
        raise TypeError("give a dsrt.Batch or tensors by name, not both")
    return Batch(batch or {}, **tensors)._native
