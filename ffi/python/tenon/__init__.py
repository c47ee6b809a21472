"""Tenon trains models on this device: exactly, in little memory.

::

    import numpy as np
    import tenon

    g = tenon.Graph()
    x = g.input("x", (64, 2))
    y = g.input("y", 64, "i32")
    w = g.parameter("w", np.zeros((3, 2), np.float32))
    loss = g.add("cross_entropy", g.add("linear", x, w), y, reduction="mean")
    with tenon.Session(g, loss, lr=0.1) as session:
        print(session.plan().planned_peak_bytes, "bytes at most")
        print(session.step({"x": points, "y": sides}).loss)

Sizes are in bytes, times in seconds unless a name says otherwise, tensors row-major. Everything that
fails raises an :class:`Error` with the library's message. What the functions below it do is told by
``tenon.h``, which lies beside this file.
"""

from . import federated
from ._array import ArrayLike
from ._context import Context
from ._dlpack import Tensor, from_dlpack
from ._errors import (
    ArgumentError,
    Cancelled,
    DeviceError,
    Error,
    FileError,
    FormatError,
    GraphError,
    InternalError,
    NotFoundError,
    OutOfMemoryError,
    ShapeError,
    UnsupportedError,
)
from ._graph import Graph, Value
from ._model import Model
from ._native import lib as _lib
from ._options import ModelOptions, Plan, Report, TrainOptions
from ._session import Parameter, Session

if _lib.tn_version() != _lib.TN_VERSION:
    raise ImportError(f"libtenon is {_lib.tn_version()}, its header {_lib.TN_VERSION}")

__version__ = "{}.{}.{}".format(
    _lib.TN_VERSION // 10000, _lib.TN_VERSION // 100 % 100, _lib.TN_VERSION % 100
)

__all__ = [
    "ArgumentError",
    "ArrayLike",
    "Cancelled",
    "Context",
    "DeviceError",
    "Error",
    "FileError",
    "FormatError",
    "Graph",
    "GraphError",
    "InternalError",
    "Model",
    "ModelOptions",
    "NotFoundError",
    "OutOfMemoryError",
    "Parameter",
    "Plan",
    "Report",
    "Session",
    "ShapeError",
    "Tensor",
    "TrainOptions",
    "UnsupportedError",
    "Value",
    "federated",
    "from_dlpack",
]
