"""What can go wrong: one class for each status code of ``tenon.h``."""

from __future__ import annotations

from typing import Any

from ._native import NULL, ffi, lib, text


class Error(Exception):
    """A call that failed, with the library's words for why and what would mend it."""

    #: The status code, ``TN_ERROR_...``; 0 where no call was made.
    status: int = 0


class ArgumentError(Error, ValueError):
    """A value that cannot be used: out of range, of the wrong size, a handle that is closed."""


class ShapeError(Error, ValueError):
    """Shapes or element types that do not fit."""


class NotFoundError(Error, LookupError):
    """No operator, parameter, input or file of that name."""


class GraphError(Error, ValueError):
    """A graph that breaks a rule, or has no gradient."""


class FileError(Error, OSError):
    """A file operation that the system refused."""


class FormatError(Error, ValueError):
    """A file that is not what it should be."""


class OutOfMemoryError(Error, MemoryError):
    """Memory has run out, or a budget cannot be met; the message tells the smallest that can."""


class UnsupportedError(Error, NotImplementedError):
    """Something that this machine, or this build of the library, cannot do."""


class Cancelled(Error):
    """A step that the progress callback stopped."""


class DeviceError(Error, RuntimeError):
    """A device that failed."""


class InternalError(Error, RuntimeError):
    """A bug in Tenon. Close the object; nothing else is safe to do with it."""


KINDS: dict[str, type[Error]] = {
    "ARGUMENT": ArgumentError,
    "SHAPE": ShapeError,
    "NOT_FOUND": NotFoundError,
    "GRAPH": GraphError,
    "IO": FileError,
    "FORMAT": FormatError,
    "MEMORY": OutOfMemoryError,
    "UNSUPPORTED": UnsupportedError,
    "CANCELLED": Cancelled,
    "DEVICE": DeviceError,
    "INTERNAL": InternalError,
}

_CLASSES = {getattr(lib, "TN_ERROR_" + name): kind for name, kind in KINDS.items()}


def error(status: int, context: Any = NULL) -> Error:
    """The exception for a status, with the message of the last failing call of ``context``."""
    size = lib.tn_error_message(context, NULL, 0)
    message = ffi.new("char[]", size + 256)  # Another thread may fail meanwhile, at more length.
    lib.tn_error_message(context, message, len(message))
    words = text(message) or text(lib.tn_status_text(status))
    made = _CLASSES.get(status, Error)(words)
    made.status = status
    return made
