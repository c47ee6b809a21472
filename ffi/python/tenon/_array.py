"""Arrays of any library, as the bytes that the library reads."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._dlpack import Tensor, from_dlpack
from ._errors import ShapeError
from ._native import choices, code, ffi

#: What can be given as a tensor: an array, a number or nested lists of them, a
#: :class:`~tenon.Tensor`, or what has ``__dlpack__``.
ArrayLike = Union[npt.ArrayLike, Tensor, Any]

Shape = Union[int, Sequence[int]]

#: Element types by their code. The header's `tn_dtype` is all names without a prefix of their own
#: that end in a number of bits or in a format's variant.
DTYPE_NAMES = {
    code("TN_", name): name
    for name in choices("TN_")
    if re.fullmatch(r"[fiu]\d+|bf16|q\d_[\dk]", name)
}

#: Element types that numpy has, too.
NUMPY = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "i8": np.dtype(np.int8),
    "i32": np.dtype(np.int32),
    "u8": np.dtype(np.uint8),
}
_NAMES = {dtype: name for name, dtype in NUMPY.items()}


class Bytes(NamedTuple):
    """A tensor's content."""

    dtype: str
    shape: tuple[int, ...]
    #: What the library takes as a pointer; keeps the memory alive.
    data: Any
    size: int


def content(value: ArrayLike) -> Bytes:
    """An array's content: in place where it is contiguous, else of a copy that is."""
    if not isinstance(value, np.ndarray):
        if isinstance(value, Tensor) or hasattr(value, "__dlpack__"):
            tensor = from_dlpack(value)
            # The pointer keeps what it points into.
            data = ffi.gc(ffi.cast("void *", tensor.ptr), partial(_let_go, tensor))
            return Bytes(tensor.dtype, tensor.shape, data, tensor.nbytes)
        value = np.asarray(value)
    name = _NAMES.get(value.dtype)
    if name is None:
        raise ShapeError(
            f"{value.dtype} is no element type here; convert it with .astype() to one of "
            + ", ".join(str(dtype) for dtype in _NAMES)
        )
    if not value.flags.c_contiguous:
        value = value.copy(order="C")
    return Bytes(name, value.shape, ffi.from_buffer(value), value.nbytes)


def floats(value: ArrayLike) -> tuple[Any, int]:
    """An f32 array's content, and how many elements it has."""
    given = content(value)
    if given.dtype != "f32":
        raise ShapeError(f"f32 is needed, what is given is {given.dtype}")
    data = ffi.gc(ffi.cast("float *", given.data), partial(_let_go, given))
    return data, given.size // 4


def _let_go(kept: Any, pointer: Any) -> None:
    """What the pointer leads to was kept until now, by being an argument of this."""


def describe(dtype: str, shape: Sequence[int]) -> str:
    """A type and shape as the library writes them."""
    return f"{dtype}[{', '.join(map(str, shape))}]"


def dims(shape: Shape) -> tuple[Any, int]:
    """A shape as the library takes it."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    return ffi.new("int64_t[]", sizes), len(sizes)


def dtype_code(name: Any) -> int:
    """The code of an element type from its name, or from numpy's type."""
    if not isinstance(name, str) or name not in DTYPE_NAMES.values():
        try:
            name = _NAMES[np.dtype(name)]
        except (KeyError, TypeError):
            raise ShapeError(f"{name!r} is not one of {', '.join(DTYPE_NAMES.values())}") from None
    return code("TN_", name)
