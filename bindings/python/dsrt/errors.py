"""The errors of dsrt: one class a status code, each also the built-in exception that Python programmers expect."""
from __future__ import annotations


class Error(Exception):
    """A call failed. `str(e)` is what the library says: the key, file or tensor, the value found, what is accepted."""

    code: int = 0
    name: str = "DS_?"

    def __init__(self, message: str, code: int | None = None):
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidArgumentError(Error, ValueError):
    code, name = -1, "DS_E_INVALID_ARGUMENT"


class ConfigError(Error, ValueError):
    code, name = -2, "DS_E_CONFIG"


class NotFoundError(Error, LookupError):
    code, name = -3, "DS_E_NOT_FOUND"


class IOFailure(Error, OSError):
    code, name = -4, "DS_E_IO"


class CorruptError(Error, ValueError):
    code, name = -5, "DS_E_CORRUPT"


class OutOfMemory(Error, MemoryError):
    code, name = -6, "DS_E_OUT_OF_MEMORY"


class UnsupportedError(Error, NotImplementedError):
    code, name = -7, "DS_E_UNSUPPORTED"


class StateError(Error, RuntimeError):
    code, name = -8, "DS_E_STATE"


class BusyError(Error, RuntimeError):
    code, name = -9, "DS_E_BUSY"


class CommError(Error, ConnectionError):
    code, name = -10, "DS_E_COMM"


class Timeout(Error, TimeoutError):
    code, name = -11, "DS_E_TIMEOUT"


class Cancelled(Error):
    code, name = -12, "DS_E_CANCELLED"


class DeviceError(Error, RuntimeError):
    code, name = -13, "DS_E_DEVICE"


class UserError(Error, RuntimeError):
    code, name = -14, "DS_E_USER"


class InternalError(Error, RuntimeError):
    code, name = -15, "DS_E_INTERNAL"


_BY_CODE = {c.code: c for c in (InvalidArgumentError, ConfigError, NotFoundError, IOFailure, CorruptError, OutOfMemory, UnsupportedError, StateError,
                                BusyError, CommError, Timeout, Cancelled, DeviceError, UserError, InternalError)}


def from_status(code: int, message: str) -> Error:
    return _BY_CODE.get(code, Error)(message, code)
