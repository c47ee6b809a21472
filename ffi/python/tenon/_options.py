"""Option structs from keyword arguments, and reports as Python sees them."""

from __future__ import annotations

import os
from typing import Any, Literal, Mapping, NamedTuple, TypedDict, get_args

from ._array import dtype_code
from ._native import code, ffi, fields, struct

#: The rule of updates.
Optimizer = Literal["adamw", "adam", "sgd"]


class TrainOptions(TypedDict, total=False):
    """How a session trains; what is left out takes the default of ``tn_train_options``."""

    #: The update rule. Default ``"adamw"``.
    optimizer: Optimizer
    #: Learning rate; 1e-3.
    lr: float
    #: AdamW: of the weights, times the rate; Adam and SGD: added to the gradient, times the weights.
    weight_decay: float
    #: Adam and AdamW; 0.9.
    beta1: float
    #: Adam and AdamW; 0.999.
    beta2: float
    #: Adam and AdamW; 1e-8.
    eps: float
    #: SGD; 0.
    momentum: float
    #: SGD: whether momentum is Nesterov's.
    nesterov: bool
    #: How the learning rate goes on from `warmup_steps` to `total_steps`. ``"constant"``.
    schedule: Literal["constant", "linear", "cosine"]
    #: Updates over which the learning rate rises from 0; none.
    warmup_steps: int
    #: Update at which linear and cosine schedules end.
    total_steps: int
    #: Largest global L2 norm of the gradient; 0: no clipping.
    clip_norm: float
    #: Steps whose gradients are averaged for one update; 1.
    accumulation: int
    #: Whether gradients can be read after a step.
    keep_gradients: bool
    #: Most bytes that the plan may take; 0: no bound.
    memory_budget: int
    #: How the optimizer's moments are stored. ``"f32"``.
    state: Literal["f32", "bf16", "int8"]
    #: How the norm for `clip_norm` is found. ``"exact"``.
    clipping: Literal["exact", "two_pass", "running"]
    #: Folder for a file of moments, where `memory_budget` cannot be met otherwise.
    spill_folder: str
    #: Whether inputs have a second buffer each, for :meth:`~tenon.Session.stage`.
    stage_inputs: bool
    #: FedProx: mu, where the loss has the term mu/2 |w - anchor|^2; 0: none.
    proximal: float
    #: SCAFFOLD: whether each gradient g is g - c_i + c.
    control_variates: bool
    #: DiLoCo: the rate of :meth:`~tenon.Session.outer_step`; 0: there is none.
    outer_lr: float
    #: Its Nesterov momentum; 0: none.
    outer_momentum: float
    #: DP-SGD: largest L2 norm of the gradient of one sample, over all that trains; 0: none.
    sample_clip_norm: float
    #: The noise's standard deviation on the sum of clipped gradients, as a multiple of
    #: `sample_clip_norm`; 0: none.
    noise_multiplier: float
    #: Of the noise: a secret, and never used for other data.
    noise_seed: int
    #: Samples in a batch; a model's sequences, where it is not given. A graph has no default.
    samples: int


class ModelOptions(TypedDict, total=False):
    """How a model becomes a session, beside `lora` and `dtype`."""

    #: Sequences in a step; 1.
    batch: int
    #: Tokens in a sequence; 256.
    seq: int
    #: Factor of the adapters is `lora_alpha` / rank; twice the rank.
    lora_alpha: float
    #: Projections with adapters, commas between; ``"q_proj,v_proj"``.
    lora_targets: str
    #: Of the adapters' first values; 0.
    seed: int
    #: Whether the output ``logits`` is there to read.
    logits: bool
    #: Layers after which the model's norm, head and loss stand too, commas between; the loss is the
    #: sum of all, outputs ``loss/N`` tell each.
    exits: str
    #: First layer of the part of the model that the session holds.
    first_layer: int
    #: Layer that the part ends before; 0: it ends with the model.
    end_layer: int
    #: What activations and their gradients travel as between parts. ``"f32"``.
    wire: str


class Plan(NamedTuple):
    """What a step takes. Known before it runs, and kept."""

    #: Nodes of a step.
    nodes: int
    #: Everything Tenon holds in a step but mapped weights, in bytes.
    planned_peak_bytes: int
    #: What the peak cannot be below in this order of nodes.
    lower_bound_bytes: int
    #: Of the peak: activations, gradients, scratch.
    arena_bytes: int
    #: Of the peak: trained parameters, optimizer state, inputs.
    owned_bytes: int
    #: Milliseconds that planning took.
    plan_ms: float
    #: Nodes that run once more to save memory.
    recomputed_nodes: int
    #: The time they are estimated to add, as a share of a step.
    slowdown: float
    #: Optimizer states in a file instead of memory; not counted above.
    spilled_bytes: int


class Report(NamedTuple):
    """What a step tells."""

    #: Of the inputs, before the update.
    loss: float
    #: Learning rate of the update; 0 if this step made none.
    lr: float
    #: L2 norm of the gradient before clipping; 0 where clipping is off or no update was made.
    grad_norm: float
    #: Updates made so far, those before a load included.
    step: int


#: What the names of an enumeration's codes begin with, by field. Two have no word of their own.
_CHOICES = {
    "schedule": "TN_SCHEDULE_",
    "clipping": "TN_CLIP_",
    "state": "TN_STATE_",
    "trains": "TN_TRAIN_",
    "precision": "TN_PRECISION_",
}


def build(kind: str, given: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """A struct of these options, and what must live as long as it is read."""
    made, kept = struct(kind), []
    known = fields(kind)
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"there is no option {name!r}; {kind} has {', '.join(known)}")
        if name in _CHOICES:
            value = code(_CHOICES[name], value)
        elif name == "wire":
            value = dtype_code(value)
        elif name == "optimizer":
            if value not in get_args(Optimizer):
                raise ValueError(f"{value!r} is not one of {', '.join(get_args(Optimizer))}")
            value = code("TN_", value)
        elif isinstance(value, (str, os.PathLike)):
            value = ffi.new("char[]", os.fspath(value).encode())
            kept.append(value)
        elif isinstance(value, bool):
            value = int(value)
        setattr(made, name, value)
    return made, kept


def plan(made: Any) -> Plan:
    """A ``tn_plan`` as Python sees it."""
    return Plan(*(getattr(made, name) for name in Plan._fields))
