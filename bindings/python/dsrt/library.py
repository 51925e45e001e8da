"""Versions, what the library was built with, the config's keys, and the log."""
from __future__ import annotations

import enum
import json
import os
from typing import Any, Callable, Union

from . import native
from .errors import InvalidArgumentError

Json = Union[str, dict, list, int, float, bool, None]


class LogLevel(enum.IntEnum):
    TRACE, DEBUG, INFO, WARN, ERROR, OFF = range(6)


def version() -> str:
    """The library's version, "0.1.0"."""
    return native.version()


def abi_version() -> tuple[int, int]:
    """Major and minor of the ABI."""
    number = native.abi_version()
    return number >> 16, number & 0xFFFF


def build_info() -> dict[str, Any]:
    """Compiler, instruction levels, libraries, optional parts and devices."""
    return json.loads(native.build_info())


def config_describe() -> Any:
    """Every key of the config with type, default and meaning."""
    return json.loads(native.config_describe())


def score(metric: str, predictions: Any, references: Any) -> dict[str, Any]:
    """Scores of predictions: "spans", "squad", "bleu"."""
    return json.loads(native.score(text("metric", metric), json_text(predictions, "predictions"), json_text(references, "references")))


def set_log(sink: Callable[[LogLevel, str, str], None] | None, level: LogLevel = LogLevel.INFO) -> None:
    """Sends messages of `level` and above to sink(level, component, message); None: back to stderr, warnings and errors only.
    What the sink raises comes out of the call that logged, once that has done its work."""
    native.set_log(None if sink is None else lambda lvl, component, message: sink(LogLevel(lvl), component, message), int(level))


def json_text(value: Any, name: str = "options") -> str | None:
    """None, JSON text as it is, or anything json.dumps takes."""
    return None if value is None else text(name, value) if isinstance(value, str) else json.dumps(value)


def text(name: str, value: Any) -> str:
    """A str that UTF-8 can hold; `name` is the argument's."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise InvalidArgumentError(f"{name}: the character {value[e.start]!r} at {e.start} has no UTF-8 form") from None
    return value


def path_text(path: Any, name: str = "path") -> str:
    """A str, bytes or os.PathLike, of UTF-8."""
    try:
        found = os.fspath(path)
    except TypeError:
        raise TypeError(f"{name} must be a str, bytes or os.PathLike, not {type(path).__name__}") from None
    return text(name, os.fsdecode(found))
