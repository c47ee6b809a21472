"""Tensors shared with other libraries without a copy, by DLPack's protocol for Python.

https://dmlc.github.io/dlpack/latest/python_spec.html
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from ._errors import ArgumentError, ShapeError
from ._native import ffi

ffi.cdef("""
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType;
typedef struct {
  void *data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} DLTensor;
typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *);
} DLManagedTensor;
typedef struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *);
  uint64_t flags;
  DLTensor dl_tensor;
} DLManagedTensorVersioned;
""")

CPU = 1
READ_ONLY = 1
#: DLPack's kinds of elements by code, as the letters of Tenon's names: ``f32``, ``bf16``, ...
_KINDS = {0: "i", 1: "u", 2: "f", 4: "bf", 6: "u"}
#: Struct and capsule's name of each major version.
_FORMS = {
    0: ("DLManagedTensor *", b"dltensor"),
    1: ("DLManagedTensorVersioned *", b"dltensor_versioned"),
}
_USED = {name: b"used_" + name for _, name in _FORMS.values()}

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


def _delete(managed: Any) -> None:
    if managed.deleter:
        managed.deleter(managed)


# The same functions for a capsule that is being freed, of which only the address may be used.
_is_valid_at = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _dropped(capsule: int) -> None:
    """A capsule goes without anyone having taken what is in it."""
    for form, name in _FORMS.values():
        if _is_valid_at(capsule, name):
            _delete(ffi.cast(form, _pointer_at(capsule, name)))


_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_dropped)


def capsule(managed: Any, major: int) -> Any:
    """A capsule that holds a managed tensor for whoever takes it."""
    return _new(int(ffi.cast("uintptr_t", managed)), _FORMS[major][1], _drop)


def take(holder: Any) -> tuple[Any, int]:
    """The managed tensor of an object or capsule, which is the caller's now, and its major version."""
    if hasattr(holder, "__dlpack__"):
        try:
            holder = holder.__dlpack__(max_version=(1, 0))
        except TypeError:  # Made before DLPack 1.0.
            holder = holder.__dlpack__()
    for major, (form, name) in _FORMS.items():
        if _is_valid(holder, name):
            managed = ffi.cast(form, _pointer(holder, name))
            if _rename(holder, _USED[name]) != 0:
                break
            return managed, major
    raise ArgumentError("no DLPack capsule, or one that was taken already")


def give_back(managed: Any) -> None:
    """Calls the deleter of what was taken."""
    _delete(managed)


class Tensor:
    """A tensor in memory that is shared, not copied: of a session, or of another library.

    ``numpy.asarray(tensor)``, ``numpy.from_dlpack(tensor)`` and ``torch.from_dlpack(tensor)`` see
    the same bytes. The memory stays while the tensor, or anything made from it, lives; a tensor of a
    session keeps the session, too.
    """

    __slots__ = ("__weakref__", "_again", "_managed", "dtype", "ptr", "readonly", "shape")

    #: Dimensions, row-major.
    shape: tuple[int, ...]
    #: Name of the element type, such as ``f32``; weights in blocks are ``u8``.
    dtype: str
    #: Address of the first byte.
    ptr: int
    #: Whether the memory must not be written.
    readonly: bool

    def __init__(self, managed: Any, major: int, again: Any) -> None:
        self._managed = ffi.gc(managed, _delete)
        self._again = again
        if major == 1 and managed.major != 1:
            raise ArgumentError(f"the tensor is of DLPack {managed.major}, not 1")
        tensor = managed.dl_tensor
        if tensor.device_type != CPU:
            raise ArgumentError(f"the tensor is on device {tensor.device_type}, not 1, CPU")
        kind = _KINDS.get(tensor.dtype.code)
        if kind is None or tensor.dtype.lanes != 1:
            raise ShapeError(f"elements of DLPack's code {tensor.dtype.code} are not known")
        self.dtype = f"{kind}{tensor.dtype.bits}"
        self.shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
        self.ptr = int(ffi.cast("uintptr_t", tensor.data)) + tensor.byte_offset
        self.readonly = major == 1 and bool(managed.flags & READ_ONLY)
        if tensor.strides and not self._is_compact(tensor.strides):
            raise ArgumentError("the tensor is not contiguous and row-major")

    def _is_compact(self, strides: Any) -> bool:
        compact = 1
        for i in reversed(range(len(self.shape))):
            if self.shape[i] != 1 and strides[i] != compact:
                return 0 in self.shape
            compact *= self.shape[i]
        return True

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return int(self.dtype.lstrip("bfiu")) // 8

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        size = self.itemsize
        for dim in self.shape:
            size *= dim
        return size

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if self.dtype.startswith("bf"):
            raise TypeError("numpy has no bfloat16; torch.from_dlpack takes this tensor")
        order = "<" if sys.byteorder == "little" else ">"
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": f"{order}{self.dtype[0]}{self.itemsize}",
            "data": (self.ptr, self.readonly),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if stream is not None or dl_device not in (None, (CPU, 0)):
            raise BufferError("the tensor is in the CPU's memory")
        if copy:
            raise BufferError("the tensor is shared, never copied; copy what you make of it")
        major = 1 if max_version is not None and max_version[0] >= 1 else 0
        if major == 0 and self.readonly:
            raise BufferError("the tensor is read-only, which DLPack before 1.0 cannot say")
        return self._again(major)

    def __repr__(self) -> str:
        return f"tenon.Tensor({self.dtype}{list(self.shape)} at {self.ptr:#x})"


def from_dlpack(source: Any) -> Tensor:
    """The tensor of another library, such as torch's or numpy's, without a copy.

    It can be given wherever Tenon takes an array: bfloat16, too, which numpy does not know. It must
    be contiguous, row-major and in the CPU's memory; else :class:`ArgumentError`.
    """
    if isinstance(source, Tensor):
        return source

    def again(major: int) -> Any:
        managed, got = take(source)
        if got > major:
            give_back(managed)
            raise BufferError("its library shares by DLPack 1.0 only")
        return capsule(managed, got)

    return Tensor(*take(source), again)
