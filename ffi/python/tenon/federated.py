"""What federated clients and their server exchange: vectors of f32, compressed, masked, cut.

A client's round, and the server's::

    start = server's parameters, f32 [n]
    session.set_flat_parameters(start)
    ... session.step(batch) ...
    data = federated.compress(session.difference(start), residual, keep=n // 100, bits=4)

    for data in received:
        federated.add(total, data, weight=share)
    federated.accumulate(start, total)

Vectors are contiguous numpy arrays of one dimension; what is changed in place comes first. Functions
run on the context's threads, and give the same bits at any number of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np
import numpy.typing as npt

from ._context import Context
from ._errors import ArgumentError, ShapeError, error
from ._native import NULL, ffi, lib, struct

__all__ = [
    "Axis",
    "FixedPoint",
    "Mask",
    "Message",
    "Submodel",
    "accumulate",
    "add",
    "average",
    "compress",
    "inspect",
    "mask",
    "secure_add",
]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]


def _call(context: Context | None, function: Any, *arguments: Any) -> None:
    handle = (context or Context.default())._handle
    status = function(handle, *arguments)
    if status:
        raise error(status, handle)


def _vector(value: Any, dtype: type[np.generic] = np.float32, changed: bool = False) -> Any:
    """A vector's memory, in place."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype != dtype:
        name = np.dtype(dtype).name
        raise ShapeError(f"a vector of {name} is needed: a numpy array of one dimension")
    if not value.flags.c_contiguous or (changed and not value.flags.writeable):
        raise ArgumentError("the vector is not contiguous" + ", or read-only" * changed)
    kind = "float[]" if dtype is np.float32 else "uint32_t[]"
    return ffi.from_buffer(kind, value, require_writable=changed)


def _same(*vectors: Any) -> int:
    """Elements of vectors that must have as many."""
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1:
        raise ShapeError(f"the vectors have {' and '.join(map(str, sorted(sizes)))} elements")
    return sizes.pop()


# --- sums -----------------------------------------------------------------------------------------


def accumulate(
    total: F32, update: F32, weight: float = 1.0, *, context: Context | None = None
) -> None:
    """total += weight * update: with the client's share of all examples as the weight, FedAvg."""
    to, what = _vector(total, changed=True), _vector(update)
    _call(context, lib.tn_update_accumulate, weight, what, to, _same(total, update))


def average(total: F32, weights: F32, *, context: Context | None = None) -> None:
    """total[i] /= weights[i], and 0 where that is 0: the mean of what not all clients have."""
    to, by = _vector(total, changed=True), _vector(weights)
    _call(context, lib.tn_update_average, by, to, _same(total, weights))


# --- compression ----------------------------------------------------------------------------------


class Message(NamedTuple):
    """What compressed bytes say of themselves."""

    #: Elements of the vector.
    elements: int
    #: Elements sent.
    kept: int
    #: Bits of a value.
    bits: int


def compress(
    update: F32,
    residual: F32 | None = None,
    *,
    keep: int = 0,
    bits: int = 32,
    seed: int = 0,
    round: int = 0,
    context: Context | None = None,
) -> bytes:
    """The bytes of update + residual; `residual` gets what was not sent, for the next round.

    :param keep: elements to send, those of largest magnitude; 0: all.
    :param bits: of a value: 2, 4, 8 or 32. Codes share a scale by 256 and are rounded at random,
        right in the mean, by `seed` and `round`.
    """
    how = struct("tn_compression", keep=keep, bits=bits, seed=seed, round=round)
    rest = NULL if residual is None else _vector(residual, changed=True)
    what, count = _vector(update), len(update)
    if residual is not None:
        _same(update, residual)
    size = ffi.new("size_t *")
    _call(context, lib.tn_update_bound, how, count, size)
    data = bytearray(size[0])
    room = ffi.from_buffer(data, require_writable=True)
    _call(context, lib.tn_update_compress, how, what, rest, count, room, len(data), size)
    return bytes(memoryview(data)[: size[0]])


def inspect(data: bytes, *, context: Context | None = None) -> Message:
    """Checks compressed bytes, whoever sent them."""
    made = struct("tn_message")
    _call(context, lib.tn_update_inspect, ffi.from_buffer(data), len(data), made)
    return Message(made.count, made.kept, made.bits)


def add(total: F32, data: bytes, weight: float = 1.0, *, context: Context | None = None) -> None:
    """total += weight * the vector that was compressed: straight from bytes, which may be hostile."""
    to = _vector(total, changed=True)
    _call(context, lib.tn_update_add, weight, ffi.from_buffer(data), len(data), to, len(total))


# --- masks ----------------------------------------------------------------------------------------


class FixedPoint:
    """Fixed point modulo 2^32, so that masks cancel. All clients and the server use the same.

    :param clip: the largest magnitude, after the weight; numbers beyond are cut to it.
    :param clients: the most vectors that are summed.
    """

    def __init__(self, clip: float, clients: int, *, context: Context | None = None) -> None:
        self._context = context
        self._how = struct("tn_fixed_point", clip=clip, clients=clients)

    def encode(self, x: F32, weight: float = 1.0) -> U32:
        """weight * x as words."""
        what, words = _vector(x), np.empty(len(x), np.uint32)
        to = _vector(words, np.uint32, changed=True)
        _call(self._context, lib.tn_secure_encode, self._how, weight, what, to, len(x))
        return words

    def decode(self, words: U32, factor: float = 1.0) -> F32:
        """factor * words, of a sum whose masks are gone; 1 / (sum of weights) gives the mean."""
        what, x = _vector(words, np.uint32), np.empty(len(words), np.float32)
        to = _vector(x, changed=True)
        _call(self._context, lib.tn_secure_decode, self._how, factor, what, to, len(words))
        return x


class Mask(NamedTuple):
    """Words that two clients make from a seed that they share and no one else knows: one adds it, the
    other takes it away. The generator is no cipher; ``tenon.h`` says what it is good for."""

    seed: int
    #: Another in every round: masks must not be used twice.
    round: int
    #: Whether it is taken away.
    negative: bool = False


def mask(words: U32, masks: Sequence[Mask], *, context: Context | None = None) -> None:
    """Adds masks to a vector."""
    to, given = _vector(words, np.uint32, changed=True), ffi.new("tn_mask[]", len(masks))
    for place, each in zip(given, masks):
        place.struct_size = ffi.sizeof("tn_mask")
        place.seed, place.round, place.negative = each.seed, each.round, bool(each.negative)
    _call(context, lib.tn_secure_mask, given, len(masks), to, len(words))


def secure_add(total: U32, words: U32, *, context: Context | None = None) -> None:
    """total += words, modulo 2^32."""
    to, what = _vector(total, np.uint32, changed=True), _vector(words, np.uint32)
    _call(context, lib.tn_secure_add, what, to, _same(total, words))


# --- sub-models -----------------------------------------------------------------------------------


class Axis(NamedTuple):
    """A window of an axis in all parameters whose names end alike. The first units are HeteroFL's
    sub-model, a start that is the round's number is FedRolex's."""

    #: What the names of the parameters end in.
    parameters: str
    #: Which axis, from 0.
    axis: int
    #: Units in the window.
    length: int
    #: The first of them, modulo the units there are: the window goes around.
    start: int = 0
    #: Indices that belong together, as those of a head.
    unit: int = 1


class Submodel:
    """A part of every layer of a model.

    :param parameters: names and shapes of the whole set, in its order; of a session's, what
        ``parameter_list()`` gives.
    :param axes: what they do not name stays whole.
    """

    def __init__(
        self,
        parameters: Sequence[Any],
        axes: Sequence[Axis],
        *,
        context: Context | None = None,
    ) -> None:
        self._context, kept = context, []

        def keep(name: str) -> Any:
            kept.append(ffi.new("char[]", name.encode()))
            return kept[-1]

        whole = ffi.new("tn_parameter[]", len(parameters))
        for place, parameter in zip(whole, parameters):
            place.struct_size = ffi.sizeof("tn_parameter")
            place.name, place.rank = keep(parameter.name), len(parameter.shape)
            place.dims[0 : len(parameter.shape)] = parameter.shape
        lines = ffi.new("tn_axis[]", len(axes))
        for place, axis in zip(lines, axes):
            place.struct_size = ffi.sizeof("tn_axis")
            place.parameters = keep(axis.parameters)
            for name in ("axis", "length", "start", "unit"):
                setattr(place, name, getattr(axis, name))
        self._how = struct("tn_submodel", parameters=whole, axes=lines)
        self._how.parameter_count, self._how.axis_count = len(whole), len(lines)
        self._kept = (whole, lines, kept)
        count = ffi.new("size_t *")
        _call(context, lib.tn_submodel_count, self._how, count)
        #: Elements of the part.
        self.count: int = count[0]

    def extract(self, whole: F32) -> F32:
        """The part of a set's vector."""
        what, part = _vector(whole), np.empty(self.count, np.float32)
        to = _vector(part, changed=True)
        _call(self._context, lib.tn_submodel_extract, self._how, what, len(whole), to, self.count)
        return part

    def add(self, total: F32, weights: F32, part: F32, weight: float = 1.0) -> None:
        """Adds weight * part to `total` where the part lies in it, and the weight to the same elements
        of `weights`: :func:`average` then gives each element the mean of those that have it."""
        to, by = _vector(total, changed=True), _vector(weights, changed=True)
        count, what = _same(total, weights), _vector(part)
        _call(self._context, lib.tn_submodel_add, self._how, weight, what, len(part), to, by, count)
