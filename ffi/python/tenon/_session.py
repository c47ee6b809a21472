"""Sessions: graphs and models in training."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Literal, Mapping, NamedTuple

import numpy as np
import numpy.typing as npt

from ._array import DTYPE_NAMES, NUMPY, ArrayLike, Bytes, content, describe, floats
from ._context import Guard, Handle
from ._dlpack import Tensor, capsule
from ._errors import ArgumentError, Cancelled, ShapeError
from ._graph import Graph, Value
from ._model import Model
from ._native import NULL, code, ffi, lib, struct, text
from ._options import Plan, Report, TrainOptions, build, plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Called with how many nodes of a step have run, and of how many; a true answer stops it.
Progress = Callable[[int, int], object]

Array = npt.NDArray[Any]

#: What a session keeps of a round of federated training, as its options ask: the parameters as the
#: round began; SCAFFOLD's variates, this client's and the server's; the outer step's momentum.
Kept = Literal["anchor", "control", "server_control", "outer_momentum"]

#: A set of parameters: what trains, all, or adapters alone.
Set = Literal["trainable", "all", "adapters"]

#: Milliseconds within which Ctrl-C stops a step.
_PATIENCE = 20

_sessions: "weakref.WeakValueDictionary[int, Session]" = weakref.WeakValueDictionary()
#: What was raised within a callback, by thread: it goes on where the call ends.
_raised: dict[int, BaseException] = {}


def _hold(_kind: object, raised: BaseException, _traceback: object) -> None:
    _raised[threading.get_ident()] = raised


def _told(user: Any, done: int, total: int) -> int:
    session = _sessions.get(int(ffi.cast("uintptr_t", user)))
    progress = None if session is None else session._progress
    return 0 if progress is None else int(bool(progress(done, total)))


# Also where the caller asks for no progress: signals, Ctrl-C's among them, are served by Python as it
# enters a function.
_tell = ffi.callback("tn_progress", _told, error=1, onerror=_hold)


class Parameter(NamedTuple):
    """What a parameter is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    trainable: bool
    #: Bytes.
    size: int


class _Place(NamedTuple):
    """A tensor of a session: what may be written there."""

    name: Any
    dtype: str
    numpy: Any
    shape: tuple[int, ...]
    size: int
    readonly: bool


class Session(Handle):
    """A graph or a model in training, its memory planned and taken. A step allocates nothing.

    ::

        session = tenon.Session(graph, loss, lr=0.01)
        session = tenon.Session(tenon.Model.load("model.gguf", lora=8), lr=2e-3, clip_norm=1.0)
        report = session.step({"x": x, "y": y})

    One thread at a time uses a session and what shares its parameters; others wait. The interpreter
    is free for other threads while the library works.

    :param source: the graph, or the model, that it trains.
    :param loss: what it minimises: an f32 scalar of the graph; None where the graph only sends what
        others go on from. A model brings its own.
    :param options: see :class:`~tenon.TrainOptions`.
    """

    _KIND = "session"

    def __init__(
        self, source: Graph | Model, loss: Value | None = None, **options: Unpack[TrainOptions]
    ) -> None:
        place = ffi.new("tn_session **")
        given, _kept = build("tn_train_options", options)
        if isinstance(source, Graph):
            source._call(lib.tn_session_create, source._loss(loss), given, place)
        elif loss is None:
            how, _how = build("tn_model_options", source._options)
            source._call(lib.tn_session_from_model, how, given, place)
        else:
            raise ArgumentError("a model brings its own loss")
        # Sessions of a graph, and of a model that is no file's, share memory that they write.
        guard = source._guard if isinstance(source, Graph) or source._empty else Guard()
        super().__init__(source._context, guard, place[0], lib.tn_session_destroy)
        self._places: dict[str, _Place] = {}
        self._progress: Progress | None = None
        # Kept for all steps, so that none has to make them.
        _sessions[id(self)] = self
        self._user = ffi.cast("void *", id(self))
        self._run = struct("tn_run_options", progress=_tell, progress_user=self._user)
        self._report = struct("tn_report")

    # --- running ------------------------------------------------------------------------------

    def step(
        self,
        batch: Mapping[str, ArrayLike] | None = None,
        *,
        progress: Progress | None = None,
        progress_ms: int = 0,
        trace: str | os.PathLike[str] | None = None,
    ) -> Report:
        """Writes the inputs of `batch`, then runs forward, backward and, at every
        ``accumulation``-th step, the update.

        A step that ends early does not count: where `progress` answers true (:class:`Cancelled`)
        or raises, at Ctrl-C, at an index outside its table. Each parameter is then either as before
        or updated whole.

        :param progress: called with how many nodes have run, and of how many: before each or, where
            `progress_ms` is given, not within so many milliseconds of the last call. It must not use
            the session.
        :param trace: file for when each node ran and for how long, for ``chrome://tracing``.
        """
        report = self._report
        with self._guard.lock:
            self._go(lib.tn_session_step, (report,), batch, progress, progress_ms, trace)
            return Report(report.loss, report.lr, report.grad_norm, report.step)

    def steps(self, batches: Iterable[Mapping[str, ArrayLike]]) -> Iterator[Report]:
        """Runs a step for each batch, and brings the next one on another thread while it runs: the
        session must be made with ``stage_inputs``. `batches` may be any iterable, such as a generator
        that reads files. What it raises goes on here, after the steps of the batches before."""
        upcoming = iter(batches)

        def bring() -> bool:
            batch = next(upcoming, None)
            if batch is not None:
                self.stage(batch)
            return batch is not None

        with ThreadPoolExecutor(1) as loader:
            brought = loader.submit(bring)
            while brought.result():
                self.take_staged()
                brought = loader.submit(bring)
                yield self.step()

    def evaluate(
        self,
        batch: Mapping[str, ArrayLike] | None = None,
        *,
        progress: Progress | None = None,
        progress_ms: int = 0,
        trace: str | os.PathLike[str] | None = None,
    ) -> float:
        """The loss of the inputs, without gradient or update: dropout is off, and ``batch_norm`` takes
        its running statistics. Outputs of the last step are gone after it. Arguments as
        :meth:`step`'s."""
        loss = ffi.new("float *")
        self._go(lib.tn_session_evaluate, (loss,), batch, progress, progress_ms, trace)
        return float(loss[0])

    def forward(
        self,
        batch: Mapping[str, ArrayLike] | None = None,
        *,
        progress: Progress | None = None,
        progress_ms: int = 0,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        """Runs a session that sends values which gradients come back for as far as it gets without
        them. Its outputs so far can be read then; once the gradients are written, :meth:`step` goes
        on from there. Arguments as :meth:`step`'s."""
        self._go(lib.tn_session_forward, (), batch, progress, progress_ms, trace)

    def _go(
        self,
        function: Any,
        outs: tuple[Any, ...],
        batch: Mapping[str, ArrayLike] | None,
        progress: Progress | None,
        progress_ms: int,
        trace: str | os.PathLike[str] | None,
    ) -> None:
        run = self._run
        # From its inputs to its outcome no other thread may come between.
        with self._guard.lock:
            if batch is not None:
                self._write_all(batch)
            if not self._guard.running:
                run.progress_ms = _PATIENCE if progress is None else progress_ms
                path = NULL if trace is None else ffi.new("char[]", os.fspath(trace).encode())
                run.trace_file, self._progress = path, progress
            try:
                self._call(function, run, *outs)
            except Cancelled:
                raised = _raised.pop(threading.get_ident(), None)
                if raised is None:
                    raise
                raise raised from None

    # --- tensors ------------------------------------------------------------------------------

    def write(self, name: str, value: ArrayLike) -> None:
        """Writes a whole input, parameter or state. Its type and shape are those of the graph: nothing
        is converted. An array that is not contiguous is copied first. ``bytes`` are taken as they are,
        where they are as many as needed."""
        self._write_all({name: value})

    def stage(self, batch: Mapping[str, ArrayLike]) -> None:
        """Writes inputs into their second buffers (``stage_inputs``), from any thread, also while
        the session runs, until :meth:`take_staged` makes them the inputs. All or, where one does not
        fit, none."""
        checked = [self._check(name, value) for name, value in batch.items()]
        for name, data, size in checked:
            self._call_beside(lib.tn_session_stage, name, data, size)

    def take_staged(self) -> None:
        """Makes what was staged the inputs. Those that were not stay as they are."""
        self._call(lib.tn_session_take)

    def read(self, name: str) -> Array:
        """A copy of an input, parameter, state, output of the last step or evaluation, or, where
        gradients are kept, of ``grad/`` and a parameter's name."""
        return np.array(self.tensor(name), copy=True)

    def read_bytes(self, name: str) -> bytes:
        """What :meth:`read` gives as its bytes, whatever its type: for what travels to others, who
        :meth:`write` them."""
        size = self._place(name).size
        data = ffi.new("char[]", size)
        self._call(lib.tn_session_read, name.encode(), data, size)
        return bytes(ffi.buffer(data, size))

    def tensor(self, name: str) -> Tensor:
        """What :meth:`read` copies, in place. Inputs, parameters and states stay where they are, and
        what is written there between steps holds for the next. An output is overwritten by the next
        step or evaluation. Weights in blocks come as ``u8``: the bytes of their rows."""
        return Tensor(self._share(name, 1), 1, _Again(self, name))

    def _share(self, name: str, major: int) -> Any:
        place = ffi.new("void **")
        self._call(lib.tn_session_dlpack, name.encode(), major, place)
        kind = "DLManagedTensorVersioned *" if major == 1 else "DLManagedTensor *"
        return ffi.cast(kind, place[0])

    def _place(self, name: str) -> _Place:
        found = self._places.get(name)
        if found is None:
            seen = self.tensor(name)
            dtype = NUMPY.get(seen.dtype)
            of = (seen.dtype, dtype, seen.shape, seen.nbytes, seen.readonly)
            found = self._places[name] = _Place(ffi.new("char[]", name.encode()), *of)
        return found

    def _write_all(self, values: Mapping[str, ArrayLike]) -> None:
        """Writes all or, where one does not fit, none."""
        checked = [self._check(name, value) for name, value in values.items()]
        for name, data, size in checked:
            self._call(lib.tn_session_write, name, data, size)

    def _check(self, name: str, value: ArrayLike) -> tuple[Any, Any, int]:
        place = self._place(name)
        if (
            type(value) is np.ndarray
            and value.dtype == place.numpy
            and value.shape == place.shape
            and value.flags.c_contiguous
        ):
            return place.name, ffi.from_buffer(value), place.size
        if isinstance(value, bytes):
            if len(value) != place.size:
                raise ArgumentError(f"`{name}` takes {place.size} bytes, not {len(value)}")
            return place.name, ffi.from_buffer(value), place.size
        given: Bytes = content(value)
        if (given.dtype, given.shape) != (place.dtype, place.shape):
            needed, got = describe(place.dtype, place.shape), describe(given.dtype, given.shape)
            raise ShapeError(f"`{name}` is {needed}, what is given is {got}")
        if place.readonly:
            raise ArgumentError(f"`{name}` is read-only: it is mapped from a file")
        return place.name, given.data, given.size

    # --- parameters ---------------------------------------------------------------------------

    def parameter_list(self) -> list[Parameter]:
        """All parameters; those that train come first."""
        count, made = ffi.new("size_t *"), struct("tn_parameter")
        self._call(lib.tn_session_parameter_count, count, NULL)
        listed = []
        for index in range(count[0]):
            self._call(lib.tn_session_parameter, index, made)
            shape = tuple(made.dims[0 : made.rank])
            dtype = DTYPE_NAMES.get(made.dtype, "unknown")
            name, trainable = text(made.name), bool(made.trainable)
            listed.append(Parameter(name, dtype, shape, trainable, made.size))
        return listed

    def parameters(self, *, trainable: bool = True) -> dict[str, Array]:
        """The parameters that train, by name, in place: arrays over the session's own memory, which
        steps change and which may be written between steps. An array keeps its session alive.

        :param trainable: False gives the frozen ones, too; those of a file are read-only.
        """
        wanted = (p.name for p in self.parameter_list() if p.trainable or not trainable)
        return {name: np.asarray(self.tensor(name)) for name in wanted}

    def set_parameters(self, values: Mapping[str, ArrayLike]) -> None:
        """Writes parameters by name: all or, where one does not fit, none."""
        known = {p.name for p in self.parameter_list()}
        for name in values:
            if name not in known:
                raise ArgumentError(f"there is no parameter `{name}`")
        self._write_all(values)

    def flat_parameters(self, which: Set = "trainable") -> Array:
        """A copy of a set of parameters as one f32 vector, in the order of :meth:`parameters`; weight
        formats are decoded."""
        return self._flat(lib.tn_parameters_read, which)

    def set_flat_parameters(self, vector: ArrayLike, which: Set = "trainable") -> None:
        """Writes a set of parameters, all f32 and none of a file, from one f32 vector."""
        self._call(lib.tn_parameters_write, code("TN_SET_", which), *floats(vector))

    def difference(self, start: ArrayLike, which: Set = "trainable") -> Array:
        """What a set of parameters is now, less `start`: what a federated client sends."""
        data, count = floats(start)
        update = np.empty(count, np.float32)
        what = (code("TN_SET_", which), data, ffi.from_buffer("float[]", update), count)
        self._call(lib.tn_parameters_difference, *what)
        return update

    def add_parameters(
        self, update: ArrayLike, factor: float = 1.0, which: Set = "trainable"
    ) -> None:
        """parameters += factor * update."""
        self._call(lib.tn_parameters_add, code("TN_SET_", which), factor, *floats(update))

    def gradients(self) -> dict[str, Array]:
        """The gradients of the last step by their parameters' names, before clipping, as copies; zeros
        where the loss does not depend on one. The session must keep them: ``keep_gradients``."""
        flat, found, start = self._gather(lib.tn_session_get_gradients), {}, 0
        for parameter in self.parameter_list():
            if parameter.trainable:
                end = start + parameter.size // flat.itemsize
                found[parameter.name] = flat[start:end].reshape(parameter.shape)
                start = end
        return found

    def _flat(self, function: Any, which: Set) -> Array:
        count = ffi.new("size_t *")
        self._call(lib.tn_parameters_count, code("TN_SET_", which), NULL, count)
        flat = np.empty(count[0], np.float32)
        self._call(function, code("TN_SET_", which), ffi.from_buffer("float[]", flat), flat.size)
        return flat

    def _gather(self, function: Any, *kept: int) -> Array:
        size = ffi.new("size_t *")
        self._call(lib.tn_session_trainable_size, size)
        flat = np.empty(size[0] // 4, np.float32)
        self._call(function, *kept, ffi.from_buffer(flat), flat.nbytes)
        return flat

    # --- rounds of federated training ---------------------------------------------------------

    def begin_round(self) -> None:
        """Begins a round: the anchor is what the parameters are now."""
        self._call(lib.tn_session_begin_round)

    def kept(self, kept: Kept) -> Array:
        """A copy of what the session keeps of a round, as one f32 vector like
        :meth:`flat_parameters`."""
        return self._gather(lib.tn_session_get_kept, code("TN_KEPT_", kept))

    def set_kept(self, kept: Kept, vector: ArrayLike) -> None:
        """Writes what the session keeps of a round."""
        data, count = floats(vector)
        self._call(lib.tn_session_set_kept, code("TN_KEPT_", kept), data, 4 * count)

    def renew_control(self) -> None:
        """Renews this client's control variate at a round's end, by SCAFFOLD's second option."""
        self._call(lib.tn_session_renew_control)

    def outer_step(self) -> None:
        """DiLoCo's step by what the round has moved, and the beginning of a new round."""
        self._call(lib.tn_session_outer_step)

    # --- memory and files ---------------------------------------------------------------------

    def plan(self) -> Plan:
        """The plan that the session keeps."""
        made = struct("tn_plan")
        self._call(lib.tn_session_plan, made)
        return plan(made)

    def set_memory_budget(self, memory_budget: int) -> None:
        """Plans anew within so many bytes (0: no bound), between two steps; no bit of what is trained
        changes. What is shared of outputs keeps their old memory until it goes."""
        self._call(lib.tn_session_set_memory_budget, memory_budget)

    def save(self, path: str | os.PathLike[str], note: str = "") -> None:
        """Saves what trains, the optimizer's state and the step number, atomically; the file that
        was there stays as `path` with ``.previous`` after it."""
        self._call(lib.tn_session_save, os.fspath(path).encode(), note.encode())

    def load(self, path: str | os.PathLike[str]) -> str:
        """Continues from a saved file, with the same bits as if it had never stopped, and gives the
        note. The session's options must be those it was saved with."""
        place = ffi.new("const char **")
        with self._guard.lock:  # The note lasts until the next load.
            self._call(lib.tn_session_load, os.fspath(path).encode(), place)
            return text(place[0])


class _Again:
    """Shares a session's tensor once more. Holds the session, as the tensor does by this."""

    __slots__ = ("name", "session")

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name

    def __call__(self, major: int) -> Any:
        return capsule(self.session._share(self.name, major), major)
