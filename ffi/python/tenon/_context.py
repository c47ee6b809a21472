"""Contexts, and what every handle of one shares."""

from __future__ import annotations

import itertools
import threading
import weakref
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar

from ._errors import ArgumentError, error
from ._native import NULL, ffi, lib, struct, text

_Self = TypeVar("_Self", bound="Handle")

_logs: dict[int, Callable[[str], object]] = {}
_tokens = itertools.count(1)


def _told(user: Any, message: Any) -> None:
    log = _logs.get(int(ffi.cast("uintptr_t", user)))
    if log is not None:
        log(text(message))


# One for all contexts, which lives as long as any handle of one can.
_log = ffi.callback("tn_log", _told)


class Context:
    """Threads and instruction set that graphs, models and sessions work with.

    Most programs need none: what is made without one uses :meth:`Context.default`. Where calls of
    several threads fail at once in one context, an exception may carry another's words.

    :param threads: threads that work, the caller's among them, at most 1024; 0: one a core.
    :param isa: instruction set by name, such as ``"avx2"``; None: the best there is, or what
        the environment's ``TENON_ISA`` says.
    :param backend: what to run on: ``"cpu"``, ``"vulkan"``, ``"nnapi"``, ``"coreml"``, or ``"auto"``, a
        graphics card where there is one; None: what the environment's ``TENON_BACKEND`` says, or the
        CPU.
    :param calibrate: whether the device's speed is measured first, in 5 to 100 ms, so that what plans
        within a budget make again is what is quick to make on it; they may then differ from run to
        run, results never do.
    :param log: called with what people may want to know, one line each.
    """

    _default: Optional["Context"] = None
    _making = threading.Lock()

    def __init__(
        self,
        *,
        threads: int = 0,
        isa: str | None = None,
        backend: str | None = None,
        calibrate: bool = False,
        log: Callable[[str], object] | None = None,
    ) -> None:
        name = NULL if isa is None else ffi.new("char[]", isa.encode())
        runs_on = NULL if backend is None else ffi.new("char[]", backend.encode())
        token = next(_tokens)
        options = struct(
            "tn_context_options", threads=threads, isa=name, backend=runs_on, calibrate=calibrate
        )
        if log is not None:
            _logs[token] = log
            weakref.finalize(self, _logs.pop, token, None)
            options.log, options.log_user = _log, ffi.cast("void *", token)
        place = ffi.new("tn_context **")
        status = lib.tn_context_create(options, place)
        if status:
            # The one call without a message.
            failed = error(status)
            asked = f"threads={threads}, isa={isa!r}, backend={backend!r}"
            failed.args = (f"{failed}: no context of {asked} can be made",)
            raise failed
        self._handle = ffi.gc(place[0], lib.tn_context_destroy)

    @classmethod
    def default(cls) -> "Context":
        """The context of this process, made when it is first asked for."""
        with cls._making:
            if cls._default is None:
                cls._default = cls()
            return cls._default


class Guard:
    """Lets one thread at a time use handles that share memory.

    The lock is one that knows its thread, so that a signal between two bytecodes cannot leave it
    locked; `running` tells a call out of a callback, on the same thread, from a call of its own.
    """

    __slots__ = ("lock", "running")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running = False


class Handle:
    """A handle of the library, given back when it is closed or collected, in any order."""

    _KIND = "handle"

    def __init__(self, context: Context, guard: Guard, pointer: Any, destroy: Any) -> None:
        self._context = context
        self._guard = guard
        self._handle: Any = ffi.gc(pointer, destroy)
        # Held by calls that do not wait for others.
        self._open = threading.Lock()

    def _call(self, function: Any, *arguments: Any) -> None:
        """Calls a function on the handle; raises what it fails with."""
        guard = self._guard
        with guard.lock:
            if guard.running:
                raise ArgumentError(f"the {self._KIND} is used by the call that calls back")
            if self._handle is None:
                raise ArgumentError(f"the {self._KIND} is closed")
            guard.running = True
            try:
                status = function(self._handle, *arguments)
            finally:
                guard.running = False
            if status:
                raise error(status, self._context._handle)

    def _call_beside(self, function: Any, *arguments: Any) -> None:
        """Calls a function that any thread may call, whoever uses the handle."""
        with self._open:
            if self._handle is None:
                raise ArgumentError(f"the {self._KIND} is closed")
            status = function(self._handle, *arguments)
        if status:
            raise error(status, self._context._handle)

    def close(self) -> None:
        """Gives back what it holds. Arrays and tensors taken from it stay valid."""
        with self._guard.lock:
            if self._guard.running:
                raise ArgumentError(f"the {self._KIND} is used by the call that calls back")
            with self._open:
                handle, self._handle = self._handle, None
            if handle is not None:
                ffi.release(handle)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._handle is None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()
