"""Batches from files, or from an iterator of the host's own."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator

from . import native
from .library import json_text, text
from .tensor import _KNOWN, Batch, BatchLike, Tensor

if TYPE_CHECKING:
    from .engine import Engine


class Data:
    """A source of batches; `for batch in data` goes through one epoch.

    Data(engine)                   the files that the engine's config names under "data"
    Data(engine, {"files": ...})   files with options of their own; ds_config_describe lists them under "data"
    Data(None, {...})              without an engine: all rows
    """

    def __init__(self, engine: Engine | None, options: Any = None):
        self._names = set(_KNOWN)
        if options is None and engine is not None:
            self._native = native.Data(engine._native)
        else:
            self._native = native.Data(json_text(options or {}), engine._native if engine else None)

    @classmethod
    def from_batches(cls, engine: Engine | None, epoch: Callable[[], Iterable[BatchLike]], *, save: Callable[[], str] | None = None,
                     restore: Callable[[str], None] | None = None) -> Data:
        """Batches of the host's own: epoch() starts an iteration over one epoch's micro-batches (Batch, or names with arrays).
        save() gives the cursor as JSON text and restore(text) goes back to it; they are kept in checkpoints. What they raise comes out of
        the call that ran them."""
        batches: Iterator[BatchLike] | None = None
        names = set(_KNOWN)

        def fill(batch: native.Batch) -> bool:
            nonlocal batches
            if batches is None:
                batches = iter(epoch())
            for made in batches:
                for name, value in made._items() if isinstance(made, Batch) else made.items():
                    names.add(name)
                    batch.put(text("name", name), (value if isinstance(value, Tensor) else Tensor(value))._native)
                return True
            batches = None
            return False

        def place() -> str:
            return text("from_batches: what save() returns", save())

        def rewind(cursor: str) -> None:
            nonlocal batches
            batches = None
            restore(cursor)

        self = cls.__new__(cls)
        self._names = names
        self._native = native.Data((fill, place if save else None, rewind if restore else None), engine._native if engine else None)
        return self

    def next(self) -> Batch | None:
        """The next micro-batch, or None at the end of an epoch; the call after that starts the next one."""
        batch = native.Batch()
        return Batch._of(batch, self._names) if self._native.next(batch) else None

    def __iter__(self) -> Iterator[Batch]:
        while (batch := self.next()) is not None:
            yield batch

    def close(self) -> None:
        """Frees it, and what from_batches was given."""
        self._native.close()

    def __enter__(self) -> Data:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
