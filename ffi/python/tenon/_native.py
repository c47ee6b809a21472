"""The library's functions, types and codes, as ``tenon.h`` declares them.

There is no second list of them: cffi reads the header that lies beside this file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import cffi

_HERE = Path(__file__).resolve().parent
_SUFFIX = {"darwin": "libtenon.dylib", "win32": "tenon.dll"}.get(sys.platform, "libtenon.so")


def declarations(header: str) -> str:
    """What a C compiler would see of ``tenon.h``, without what is for C alone."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    header = re.sub(
        r"^#ifdef __cplusplus\n.*?^#endif\n", "", header, flags=re.DOTALL | re.MULTILINE
    )
    header = re.sub(r"^static inline .*?^}\n", "", header, flags=re.DOTALL | re.MULTILINE)
    header = re.sub(r"^(#define TN_\w+ 0x[0-9a-f]+)u$", r"\1", header, flags=re.MULTILINE)
    return re.sub(r"^#(?!define TN_\w+ \w+$).*\n", "", header, flags=re.MULTILINE)


ffi: Any = cffi.FFI()
ffi.cdef(declarations((_HERE / "tenon.h").read_text(encoding="utf-8")))
lib: Any = ffi.dlopen(str(_HERE / _SUFFIX))

NULL = ffi.NULL


def struct(kind: str, **fields: Any) -> Any:
    """A struct of the header with its size set; what is not given is zero, its default."""
    made = ffi.new(kind + " *", fields)
    made.struct_size = ffi.sizeof(made[0])
    return made


def fields(kind: str) -> list[str]:
    """Names of a struct's fields that carry something."""
    return [
        name
        for name, _ in ffi.typeof(kind).fields
        if not name.startswith(("struct_size", "unused"))
    ]


def code(prefix: str, name: str) -> int:
    """The code of a choice by its name: ``code("TN_STATE_", "bf16")`` is ``TN_STATE_BF16``."""
    found = getattr(lib, prefix + str(name).upper(), None)
    if not isinstance(found, int):
        raise ValueError(f"{name!r} is not one of {', '.join(choices(prefix))}")
    return found


def choices(prefix: str) -> list[str]:
    """Names that :func:`code` knows."""
    return [n[len(prefix) :].lower() for n in dir(lib) if n.startswith(prefix)]


def text(pointer: Any) -> str:
    """A C string as Python's."""
    return str(ffi.string(pointer), "utf-8", "replace") if pointer else ""
