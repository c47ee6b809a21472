"""Apple's own tools judge the packages that Tenon writes: tests/coreml.py FOLDER

FOLDER holds what the suite `coreml` left there: packages NAME.mlpackage, and beside each the bytes of
its inputs and of the answers expected, NAME.x0, NAME.y0 and so on.

1. Each package is loaded: coremltools infers all types and shapes again and refuses what does not fit.
2. Each is loaded once more with its inputs as constants, so that coremltools computes the answers by
   folding. What it does not fold is computed here, by plain numpy.
3. Packages that were changed for the worse must be refused.
"""

import collections
import copy
import itertools
import logging
import pathlib
import re
import shutil
import sys
import tempfile
import warnings

import numpy as np

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")

import coremltools  # noqa: E402
from coremltools.converters.mil.frontend.milproto.load import load  # noqa: E402
from coremltools.converters.mil.mil import Operation  # noqa: E402
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry  # noqa: E402
from coremltools.models.utils import _try_get_weights_dir_path  # noqa: E402

# Of the largest number of an answer; of halves there are ten bits, rounded once per operation.
BOUNDS = {"float32": 1e-5, "float16": 1e-2}
ARRAYS = {65568: np.float32, 65552: np.float16, 131104: np.int32}
HALF, FLOAT, INT = 10, 11, 23


# --- what folding leaves out ----------------------------------------------------------------------


def windows(op):
    """Strides, dilations and pairs of zeros of a window."""
    strides = op.strides.val
    dilations = op.dilations.val if "dilations" in op.inputs and op.dilations else np.ones_like(strides)
    return strides, dilations, op.pad.val.reshape(-1, 2)


def taps(x, kernel, strides, dilations, pads, out):
    """What each tap of a window sees, as (tap, part of x)."""
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    for tap in itertools.product(*map(range, kernel)):
        at = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, out, strides)]
        yield tap, padded[:, :, at[0], at[1]]


def conv(self):
    x, w, groups = self.x.val, self.weight.val, self.groups.val
    if x is None or w is None:
        return None
    strides, dilations, pads = windows(self)
    out = self.type_inference().get_shape()
    y = np.zeros(out, np.float64)
    for (i, j), part in taps(x.astype(np.float64), w.shape[2:], strides, dilations, pads, out[2:]):
        for group, (a, b) in enumerate(zip(np.split(part, groups, 1), np.split(w[:, :, i, j], groups))):
            o = out[1] // groups
            y[:, group * o : group * o + o] += np.einsum("bchw,oc->bohw", a, b.astype(np.float64))
    if self.bias is not None:
        y += self.bias.val.reshape(1, -1, 1, 1)
    return y.astype(x.dtype)


def conv_transpose(self):
    x, w, groups = self.x.val, self.weight.val, self.groups.val
    if x is None or w is None:
        return None
    strides, dilations, pads = windows(self)
    out = self.output_shape.val
    y = np.zeros((out[0], out[1], *(out[2:] + pads.sum(1))), np.float64)
    c = out[1] // groups
    for i, j in itertools.product(*map(range, w.shape[2:])):
        rows, cols = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip((i, j), dilations, x.shape[2:], strides)
        ]
        for group, (a, b) in enumerate(zip(np.split(x, groups, 1), np.split(w[:, :, i, j], groups))):
            part = np.einsum("bohw,oc->bchw", a.astype(np.float64), b.astype(np.float64))
            y[:, group * c : group * c + c, rows, cols] += part
    (top, _), (left, _) = pads
    return y[:, :, top : top + out[2], left : left + out[3]].astype(x.dtype)


def avg_pool(self):
    x = self.x.val
    if x is None:
        return None
    strides, dilations, pads = windows(self)
    out = self.type_inference().get_shape()
    kernel = self.kernel_sizes.val
    total, count = np.zeros(out), np.zeros(out)
    for _, part in taps(x.astype(np.float64), kernel, strides, dilations, pads, out[2:]):
        total += part
    for _, part in taps(np.ones(x.shape), kernel, strides, dilations, pads, out[2:]):
        count += part
    assert self.exclude_padding_from_average.val
    return (total / count).astype(x.dtype)


def by_numpy(function):
    """An operation of values under the names of its parameters."""

    def fold(self):
        values = {key: var.val for key, var in self.inputs.items() if hasattr(var, "val")}
        if any(value is None for value in values.values()):
            return None
        return np.asarray(function(**values))

    return fold


def pad(x, pad, mode, constant_val):
    assert mode == "constant"
    pairs = np.asarray(pad).reshape(-1, 2)
    whole = np.concatenate([np.zeros((x.ndim - len(pairs), 2), int), pairs])
    return np.pad(x, whole, constant_values=constant_val)


def gather(x, indices, axis, **_):
    return np.take(x, indices, axis)


def by_size(x, begin, size):
    return x[tuple(slice(b, b + s) for b, s in zip(begin, size))]


def dequantize(self):
    if self.input.val is None:
        return None
    assert self.scale.rank == 0, "one scale"
    zero = 0 if self.zero_point is None else int(self.zero_point.val)
    return (self.input.val.astype(self.scale.val.dtype) - zero) * self.scale.val


GAPS = {
    "dequantize": dequantize,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "avg_pool": avg_pool,
    "pad": by_numpy(pad),
    "gather": by_numpy(gather),
    "slice_by_size": by_numpy(by_size),
    "reverse": by_numpy(lambda x, axes: np.flip(x, tuple(axes))),
    "tile": by_numpy(lambda x, reps: np.tile(x, reps)),
    "constexpr_affine_dequantize": lambda self: self.materialized_val_inference(),
    "constexpr_blockwise_shift_scale": lambda self: self.materialized_val_inference(),
}


def fill_gaps():
    """Folds what coremltools does not; gives the names."""
    filled = set()
    for name, function in GAPS.items():
        for variant in SSAOpRegistry.core_ops[name].values():
            if variant.value_inference is Operation.value_inference:
                variant.value_inference = function
                filled.add(name)
    return sorted(filled)


# --- packages -------------------------------------------------------------------------------------


def read(package):
    return coremltools.utils.load_spec(str(package))


def accept(spec, package):
    version = spec.specificationVersion
    return load(spec, version, _try_get_weights_dir_path(str(package)) or "")


def with_constants(spec, package):
    """The model with what goes in as constants."""
    spec = copy.deepcopy(spec)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    operations = list(block.operations)
    del block.operations[:]
    values = {}
    states = {feature.name for feature in spec.description.state}
    for kind in (spec.description.input, spec.description.state):
        for feature in kind:
            array = feature.type.multiArrayType or feature.type.stateType.arrayType
            if feature.name in states:
                array = feature.type.stateType.arrayType
            dtype = ARRAYS[array.dataType]
            data = np.fromfile(package.with_suffix("." + feature.name), dtype)
            values[feature.name] = data.reshape(tuple(array.shape))
    for given in function.inputs:
        value = values[given.name]
        constant = block.operations.add(type="const")
        kind = given.type.stateType.wrappedType if given.name in states else given.type
        output = constant.outputs.add(name=given.name)
        output.type.CopyFrom(kind)
        name = constant.attributes["name"]
        name.type.tensorType.dataType = 2
        name.immediateValue.tensor.strings.values.append(given.name)
        val = constant.attributes["val"]
        val.type.CopyFrom(kind)
        tensor = val.immediateValue.tensor
        if value.dtype == np.float32:
            tensor.floats.values.extend(value.ravel().tolist())
        elif value.dtype == np.int32:
            tensor.ints.values.extend(value.ravel().tolist())
        else:
            tensor.bytes.values = value.tobytes()
    del function.inputs[:]
    for operation in operations:
        if operation.type == "read_state":
            operation.type = "identity"
            operation.inputs["x"].CopyFrom(operation.inputs["input"])
            del operation.inputs["input"]
        block.operations.append(operation)
    return spec


def evaluate(package, spec):
    """The largest difference to the answers, of their largest number; the bound."""
    program = accept(with_constants(spec, package), package)
    folded = program.functions["main"].outputs
    halves = any(
        output.type.tensorType.dataType == HALF
        for operation in body(spec).operations
        if operation.type not in ("const", "read_state")
        for output in operation.outputs
    )
    worst = 0.0
    for feature, var in zip(spec.description.output, folded, strict=True):
        array = feature.type.multiArrayType
        expected = np.fromfile(package.with_suffix("." + feature.name), ARRAYS[array.dataType])
        expected = expected.reshape(tuple(array.shape)).astype(np.float64)
        if var.val is None:
            unknown = [o.op_type for o in program.functions["main"].operations if o.outputs[0].val is None]
            raise AssertionError(f"{feature.name} is not folded; first of {unknown[:1]}")
        found = np.asarray(var.val, np.float64)
        assert found.shape == expected.shape, f"{found.shape} instead of {expected.shape}"
        assert np.isfinite(expected).all() == np.isfinite(found).all(), "what is not finite differs"
        scale = max(1.0, np.abs(expected).max())
        worst = max(worst, float(np.abs(found - expected).max() / scale))
    return worst, BOUNDS["float16" if halves else "float32"]


# --- what must be refused -------------------------------------------------------------------------


def body(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def first(spec, kind):
    return next(o for o in body(spec).operations if o.type == kind)


def parameter(spec, kind, key):
    """The constant that is a parameter of the first operation of a kind."""
    name = first(spec, kind).inputs[key].arguments[0].name
    constant = next(o for o in body(spec).operations if o.outputs and o.outputs[0].name == name)
    return constant.attributes["val"].immediateValue.tensor


def bind(argument, name):
    argument.arguments[0].name = name


def blob(spec):
    """The first constant in the file of weights."""
    for operation in body(spec).operations:
        for value in operation.attributes.values():
            if value.HasField("blobFileValue"):
                return value.blobFileValue
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.value.HasField("blobFileValue"):
                    return binding.value.blobFileValue
    raise AssertionError("no constant lies in the file")


def weight_file(package):
    return package / "Data/com.apple.CoreML/weights/weight.bin"


def truncated(spec, package):
    data = weight_file(package).read_bytes()
    weight_file(package).write_bytes(data[: len(data) // 2])


def spoiled(at):
    def change(spec, package):
        data = bytearray(weight_file(package).read_bytes())
        data[at] ^= 0xFF
        weight_file(package).write_bytes(data)

    return change


def retyped(kind, data_type):
    def change(spec, _):
        first(spec, kind).outputs[0].type.tensorType.dataType = data_type

    return change


def resized(kind):
    def change(spec, _):
        first(spec, kind).outputs[0].type.tensorType.dimensions[0].constant.size += 1

    return change


def without(kind, key):
    def change(spec, _):
        del first(spec, kind).inputs[key]

    return change


def rebound(kind, key, name):
    return lambda spec, _: bind(first(spec, kind).inputs[key], name)


def renamed(kind, name):
    def change(spec, _):
        first(spec, kind).type = name

    return change


def ints(kind, key, values):
    def change(spec, _):
        parameter(spec, kind, key).ints.values[:] = values

    return change


def words(kind, key, value):
    def change(spec, _):
        parameter(spec, kind, key).strings.values[:] = [value]

    return change


def flipped(kind, key):
    def change(spec, _):
        flags = parameter(spec, kind, key).bools.values
        flags[0] = not flags[0]

    return change


def set_to(function):
    def change(spec, _):
        function(spec)

    return change


def version(spec):
    spec.mlProgram.version = 2


def opset(spec):
    spec.mlProgram.functions["main"].opset = "CoreML4"


def undefined_output(spec):
    body(spec).outputs[0] = "nothing"


def unknown_parameter(spec):
    operation = first(spec, "matmul")
    operation.inputs["z"].CopyFrom(operation.inputs["x"])


def twice(spec):
    outputs = first(spec, "matmul").outputs
    outputs.add().CopyFrom(outputs[0])


def other_input(spec):
    kind = spec.mlProgram.functions["main"].inputs[0].type.tensorType
    kind.dimensions[kind.rank - 1].constant.size += 1


def half_input(spec):
    spec.mlProgram.functions["main"].inputs[0].type.tensorType.dataType = HALF


def out_of_file(spec):
    blob(spec).offset = 1 << 40


def between_blobs(spec):
    blob(spec).offset += 64


def other_size(spec):
    values = (value for operation in body(spec).operations for value in operation.attributes.values())
    value = next(value for value in values if value.HasField("blobFileValue"))
    value.type.tensorType.dimensions[0].constant.size += 1


# Package, what is done to it, and how.
MUTATIONS = [
    ("op_matmul", "a result of another shape", resized("matmul")),
    ("op_matmul", "a result of another type", retyped("matmul", INT)),
    ("op_matmul", "an operation that does not exist", renamed("matmul", "matmull")),
    ("op_matmul", "an operation of another opset", renamed("matmul", "scaled_dot_product_attention")),
    ("op_matmul", "an operand that is missing", without("matmul", "y")),
    ("op_matmul", "a parameter that does not exist", set_to(unknown_parameter)),
    ("op_matmul", "an operand that nothing makes", rebound("matmul", "y", "nothing")),
    ("op_matmul", "shapes that do not meet", flipped("matmul", "transpose_x")),
    ("op_matmul", "two results of one product", set_to(twice)),
    ("op_matmul", "an output that nothing makes", set_to(undefined_output)),
    ("op_matmul", "a program of version 2", set_to(version)),
    ("op_matmul", "an opset without a block", set_to(opset)),
    ("op_linear", "a weight that is no constant", rebound("linear", "weight", "x0")),
    ("op_linear", "a weight that is missing", without("linear", "weight")),
    ("op_linear", "a blob outside the file", set_to(out_of_file)),
    ("op_linear", "a blob where none begins", set_to(between_blobs)),
    ("op_linear", "a constant of another size than its blob", set_to(other_size)),
    ("op_linear", "a truncated file of weights", truncated),
    ("op_linear", "a file of weights without its mark", spoiled(64)),
    ("op_linear", "a file of weights of version 253", spoiled(4)),
    ("op_conv", "a kind of padding that does not exist", words("conv", "pad_type", "round")),
    ("op_conv", "groups that the channels do not have", ints("conv", "groups", [3])),
    ("op_conv", "strides of 0", ints("conv", "strides", [0, 0])),
    ("op_conv_input_weight", "a spread kernel that is no constant", ints("conv", "dilations", [2, 2])),
    ("op_conv", "an image for a kernel", rebound("conv", "weight", "x0")),
    ("op_reshape", "a shape of more elements", ints("reshape", "shape", [5, 7])),
    ("op_transpose", "axes that are no permutation", ints("transpose", "perm", [0, 0, 1])),
    ("op_slice", "a box that leaves its operand", ints("slice_by_size", "size", [99, 99, 99])),
    ("op_concat", "an axis that does not exist", ints("concat", "axis", [7])),
    ("op_concat", "interleaved parts of different sizes", flipped("concat", "interleave")),
    ("op_reduce_sum", "a reduction along an axis that does not exist", ints("reduce_sum", "axes", [8, 9])),
    ("op_select", "a choice by numbers", rebound("select", "cond", "x0")),
    ("op_cast", "a type that does not exist", words("cast", "dtype", "fp8")),
    ("op_gather", "indices that are floats", rebound("gather", "indices", "x0")),
    ("op_add", "operands that do not broadcast", set_to(other_input)),
    ("op_add", "operands of two types", set_to(half_input)),
    ("op_quantize", "codes of a type that does not exist", words("quantize", "output_dtype", "int5")),
]


def refuse(folder):
    missed = []
    print("\nrefused:")
    for name, what, change in MUTATIONS:
        with tempfile.TemporaryDirectory() as scratch:
            package = pathlib.Path(scratch) / f"{name}.mlpackage"
            shutil.copytree(folder / package.name, package)
            spec = read(package)
            change(spec, package)
            try:
                accept(spec, package)
            except Exception as error:  # noqa: BLE001 coremltools raises any kind
                why = " ".join(str(error).split())[:90] or type(error).__name__
                print(f"  {name:22} {what:48} {why}")
            else:
                missed.append(f"{name}: {what}")
    return missed


def main():
    folder = pathlib.Path(sys.argv[1])
    packages = sorted(folder.glob("*.mlpackage"))
    assert packages, f"no packages in {folder}"
    wrong, used, worst = [], collections.Counter(), {}
    for package in packages:
        try:
            spec = read(package)
            accept(spec, package)
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{package.stem}: not accepted: {error}")
    print(f"{len(packages) - len(wrong)} of {len(packages)} packages accepted")
    wrong += [f"accepted: {what}" for what in refuse(folder)]
    filled = fill_gaps()
    for package in packages:
        try:
            spec = read(package)
            used.update({operation.type for operation in body(spec).operations})
            error, bound = evaluate(package, spec)
            key = re.sub(r"-[0-9]+", "", package.stem)
            worst[key] = max(worst.get(key, (0.0, bound)), (error, bound))
            if not error <= bound:
                wrong.append(f"{package.stem}: differs by {error:.1e}, more than {bound:.0e}")
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{package.stem}: not evaluated: {type(error).__name__}: {error}")
    print("\nlargest difference, of an answer's largest number:")
    for key, (error, bound) in worst.items():
        print(f"  {key:32} {error:.1e} of {bound:.0e}")
    print("\noperations:", " ".join(f"{kind} ({count})" for kind, count in sorted(used.items())))
    print("folded here, not by coremltools:", " ".join(filled))
    if wrong:
        sys.exit("\n".join(["", f"{len(wrong)} wrong:", *wrong]))
    print(f"\n{len(packages)} packages as expected")


if __name__ == "__main__":
    main()
