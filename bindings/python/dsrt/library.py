"""Versions, what the library was built with, the config's keys, and the log."""
from __future__ import annotations

import enum
import json
import os
from typing import Any, Callable, Union

from . import native

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
    return json.loads(native.score(metric, json_text(predictions), json_text(references)))


def set_log(sink: Callable[[LogLevel, str, str], None] | None, level: LogLevel = LogLevel.INFO) -> None:
    """Sends messages of `level` and above to sink(level, component, message); None: back to stderr, warnings and errors only.
    What the sink raises comes out of the call that logged, once that has done its work."""
    native.set_log(None if sink is None else lambda lvl, component, message: sink(LogLevel(lvl), component, message), int(level))


def json_text(value: Any) -> str | None:
    """None, JSON text as it is, or anything json.dumps takes."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def path_text(path: str | os.PathLike[str]) -> str:
    return os.fspath(path)
