"""Graphs: computations built by the names of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence, Union

import numpy as np

from ._array import ArrayLike, Shape, content, dims, dtype_code
from ._context import Context, Guard, Handle
from ._dlpack import give_back, take
from ._errors import ArgumentError, Error, error
from ._native import NULL, ffi, lib, struct, text
from ._options import Plan, TrainOptions, build, plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._session import Session

#: What an operator's attribute can be.
Attribute = Union[bool, int, float, str, Sequence[int]]

_MAX_RANK: int = lib.TN_MAX_RANK


class Value:
    """A value of a graph: what an operator reads and makes."""

    __slots__ = ("graph", "number")

    def __init__(self, graph: "Graph", number: int) -> None:
        #: The graph that it belongs to.
        self.graph = graph
        #: Its number there.
        self.number = number

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        sizes, rank = ffi.new("int64_t[]", _MAX_RANK), ffi.new("size_t *")
        self.graph._call(lib.tn_graph_shape, self.number, sizes, rank)
        return tuple(sizes[0 : rank[0]])

    def __repr__(self) -> str:
        return f"tenon.Value({self.number}, shape={self.shape})"


class Graph(Handle):
    """A computation: inputs, parameters, states, and operators by name.

    ::

        g = tenon.Graph()
        x = g.input("x", (64, 2))
        y = g.add("linear", x, g.parameter("w", w), g.parameter("b", b))
        loss = g.add("reduce_mean", g.add("square", y))
        session = tenon.Session(g, loss, lr=0.01)

    Tensors are row-major. Sessions of one graph share its parameters.
    """

    _KIND = "graph"

    def __init__(self, context: Context | None = None) -> None:
        context = context or Context.default()
        place = ffi.new("tn_graph **")
        status = lib.tn_graph_create(context._handle, place)
        if status:
            raise error(status, context._handle)
        super().__init__(context, Guard(), place[0], lib.tn_graph_destroy)

    def input(self, name: str, shape: Shape, dtype: str = "f32") -> Value:
        """A value that each step is given anew. The i32 scalar ``train.seed`` is written by each step
        itself: for dropout."""
        place = ffi.new("tn_value *")
        code = dtype_code(dtype)
        self._call(lib.tn_graph_input, name.encode(), code, *dims(shape), place)
        return Value(self, place[0])

    def parameter(
        self,
        name: str,
        value: ArrayLike | None = None,
        *,
        shape: Shape | None = None,
        dtype: str = "f32",
        trainable: bool = True,
        share: bool = False,
    ) -> Value:
        """A weight: a copy of `value`, or zeros of `shape` and `dtype`. What trains must be f32.

        With `share` the array's own memory is used in place, and updates write there: it must be
        contiguous, and nothing else may touch it during a step.
        """
        place = ffi.new("tn_value *")
        if (value is None) == (shape is None):
            raise ArgumentError("a parameter needs a value or a shape, not both")
        if value is None:
            content_of: tuple[Any, ...] = (dtype_code(dtype), *dims(shape or ()), NULL, 0)
        elif share:
            if not hasattr(value, "__dlpack__"):
                raise ArgumentError(f"a {type(value).__name__} has no memory to share")
            managed, major = take(value)
            try:
                arguments = (name.encode(), major, managed, trainable, place)
                self._call(lib.tn_graph_parameter_dlpack, *arguments)
            except Error:  # Refused: it is ours still.
                give_back(managed)
                raise
            return Value(self, place[0])
        else:
            given = content(value)
            content_of = (dtype_code(given.dtype), *dims(given.shape), given.data, given.size)
        self._call(lib.tn_graph_parameter, name.encode(), *content_of, trainable, place)
        return Value(self, place[0])

    def state(self, name: str, shape: Shape, dtype: str = "f32") -> Value:
        """A value kept between runs that operators such as ``batch_norm`` overwrite; zeros at first."""
        place = ffi.new("tn_value *")
        self._call(lib.tn_graph_state, name.encode(), dtype_code(dtype), *dims(shape), place)
        return Value(self, place[0])

    def constant(self, value: ArrayLike) -> Value:
        """A copy of `value` that never changes."""
        place, given = ffi.new("tn_value *"), content(value)
        what = (dtype_code(given.dtype), *dims(given.shape), given.data, given.size)
        self._call(lib.tn_graph_constant, *what, place)
        return Value(self, place[0])

    def add(self, op: str, *inputs: Value, **attributes: Attribute) -> Value:
        """Adds the operator called `op`, and gives its first output: ``g.add("softmax", x)``,
        ``g.add("cross_entropy", logits, targets, reduction="mean")``. The README lists them."""
        return self.add_all(op, *inputs, **attributes)[0]

    def add_all(self, op: str, *inputs: Value, **attributes: Attribute) -> tuple[Value, ...]:
        """As :meth:`add`, but gives all outputs."""
        kept: list[Any] = []
        attrs = ffi.new("tn_attr[]", len(attributes))
        for attr, (name, value) in zip(attrs, attributes.items()):
            _set(attr, name, value, kept)
        numbers = ffi.new("tn_value[]", [self._own(value) for value in inputs])
        room, count = 8, ffi.new("size_t *")
        made = ffi.new("tn_value[]", room)
        arguments = (attrs, len(attributes), numbers, len(inputs), made, room, count)
        self._call(lib.tn_graph_add, op.encode(), *arguments)
        return tuple(Value(self, made[i]) for i in range(count[0]))

    def output(self, name: str, value: Value) -> None:
        """Asks for a value under a name after each step or evaluation."""
        self._call(lib.tn_graph_output, name.encode(), self._own(value))

    def send(self, name: str, value: Value, dtype: str = "f32", *, trains: bool = True) -> None:
        """Sends an f32 value on to another part of a model: the session's output `name`, as `dtype`.
        Where `trains`, its gradient comes back as the input ``grad/`` and the name, which is written
        between :meth:`~tenon.Session.forward` and :meth:`~tenon.Session.step`."""
        what = (name.encode(), dtype_code(dtype), self._own(value), trains)
        self._call(lib.tn_graph_send, *what)

    def receive(self, name: str, shape: Shape, dtype: str = "f32", *, trains: bool = True) -> Value:
        """Receives a value of another part as the input `name` of such a type, and gives it in f32.
        Where `trains`, each step gives its gradient as the output ``grad/`` and the name."""
        place = ffi.new("tn_value *")
        what = (name.encode(), dtype_code(dtype), *dims(shape), trains)
        self._call(lib.tn_graph_receive, *what, place)
        return Value(self, place[0])

    def set_trainable(self, parameter: Value, trainable: bool) -> None:
        """Makes a parameter train, or freezes it."""
        self._call(lib.tn_graph_set_trainable, self._own(parameter), trainable)

    def dump(self) -> str:
        """The graph as text to read."""
        place = ffi.new("const char **")
        with self._guard.lock:  # The text lasts until the graph's next call.
            self._call(lib.tn_graph_dump, place)
            return text(place[0])

    def graphviz(self) -> str:
        """The graph in Graphviz's language."""
        place = ffi.new("const char **")
        with self._guard.lock:
            self._call(lib.tn_graph_graphviz, place)
            return text(place[0])

    def plan(self, loss: Value | None = None, **options: Unpack[TrainOptions]) -> Plan:
        """What a session of these options would take, without making it."""
        made, (given, _kept) = struct("tn_plan"), build("tn_train_options", options)
        self._call(lib.tn_plan_graph, self._loss(loss), given, made)
        return plan(made)

    def backward(self, loss: Value, **options: Unpack[TrainOptions]) -> "Session":
        """The gradients of `loss`, an f32 scalar, toward all that trains: a session whose
        :meth:`~tenon.Session.gradients` can be read after each step."""
        from ._session import Session

        options.setdefault("keep_gradients", True)
        return Session(self, loss, **options)

    def _loss(self, value: Value | None) -> int:
        return int(lib.TN_NO_VALUE) if value is None else self._own(value)

    def _own(self, value: Value) -> int:
        if not isinstance(value, Value):
            raise TypeError(f"a Value of the graph is needed, not {type(value).__name__}")
        if value.graph is not self:
            raise ArgumentError("the value belongs to another graph")
        return value.number


def _set(attr: Any, name: str, value: Attribute, kept: list[Any]) -> None:
    """Writes an attribute; what it points to goes to `kept`."""

    def keep(made: Any) -> Any:
        kept.append(made)
        return made

    attr.struct_size = ffi.sizeof("tn_attr")
    attr.name = keep(ffi.new("char[]", name.encode()))
    if isinstance(value, (bool, np.bool_)):
        attr.kind, attr.integer = lib.TN_ATTR_BOOL, int(value)
    elif isinstance(value, (int, np.integer)):
        attr.kind, attr.integer = lib.TN_ATTR_INT, int(value)
    elif isinstance(value, (float, np.floating)):
        attr.kind, attr.number = lib.TN_ATTR_FLOAT, float(value)
    elif isinstance(value, str):
        attr.kind, attr.string = lib.TN_ATTR_STRING, keep(ffi.new("char[]", value.encode()))
    else:
        integers = [int(i) for i in value]
        attr.kind, attr.integer_count = lib.TN_ATTR_INTS, len(integers)
        attr.integers = keep(ffi.new("int64_t[]", integers))
