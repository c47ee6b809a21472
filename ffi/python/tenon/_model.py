"""Models: weights mapped from a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from ._context import Context, Guard, Handle
from ._errors import ArgumentError, error
from ._native import ffi, lib, struct
from ._options import ModelOptions, Plan, TrainOptions, build, plan

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Model(Handle):
    """A model's weights, mapped from a file, and how a session trains them.

    A session of it has the inputs ``tokens``, i32 [batch, seq], and ``targets``, i32 [batch * seq]:
    the token that follows each, -100 where none counts.
    """

    _KIND = "model"
    _options: dict[str, Any]
    _empty: bool

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        context: Context | None = None,
        lora: int | None = 8,
        frozen: bool = False,
        empty: bool = False,
        dtype: Literal["f32", "bf16", "int8"] = "f32",
        **options: Unpack[ModelOptions],
    ) -> "Model":
        """Maps a ``.gguf`` file, or a folder with ``config.json`` and safetensors. It must not be
        rewritten in place while the model or a session of it lives.

        :param lora: rank of the adapters that train; None: every weight trains.
        :param frozen: nothing trains: for parts of a model that are only evaluated.
        :param empty: takes the shapes alone from the file, or from a ``config.json``; weights are zeros,
            to be written with what a server sends.
        :param dtype: what products with the model's own weights round their operands to; sums are
            f32. ``"int8"`` is for weights that do not train.
        """
        if lora is not None and lora < 1:
            raise ArgumentError(f"lora is a rank of 1 or more, or None; not {lora}")
        trains = "nothing" if frozen else "everything" if lora is None else "lora"
        # Built once so that what is wrong with it shows here.
        given: dict[str, Any] = {"trains": trains, "precision": dtype, **options}
        if trains == "lora":
            given["lora_rank"] = lora
        build("tn_model_options", given)
        context = context or Context.default()
        place = ffi.new("tn_model **")
        load = lib.tn_model_empty if empty else lib.tn_model_load
        status = load(context._handle, os.fspath(path).encode(), place)
        if status:
            raise error(status, context._handle)
        model = cls(context, Guard(), place[0], lib.tn_model_destroy)
        model._options, model._empty = given, empty
        return model

    def plan(self, **options: Unpack[TrainOptions]) -> Plan:
        """What a session of these options would take, without making it."""
        how, _how = build("tn_model_options", self._options)
        made, (given, _given) = struct("tn_plan"), build("tn_train_options", options)
        self._call(lib.tn_plan_model, how, given, made)
        return plan(made)
