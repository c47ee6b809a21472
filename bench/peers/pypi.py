"""Runs the products of a file of JSON rows with torch (oneDNN), onnxruntime and OpenBLAS, and prints
all as one table: GFLOP/s on one thread, the best of the rounds of 1.5 seconds."""

import json
import sys
import time

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

SECONDS = 1.5
torch.set_num_threads(1)


def best(run):
    """Least seconds of a call."""
    run()
    least, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - before)
    return least


def by_torch(layout, m, n, k, dtype):
    a = torch.randn((k, m) if layout == "tn" else (m, k)).to(dtype)
    b = torch.randn((n, k) if layout == "nt" else (k, n)).to(dtype)
    a, b = a.t() if layout == "tn" else a, b.t() if layout == "nt" else b
    c = torch.empty(m, n, dtype=dtype)
    return lambda: torch.mm(a, b, out=c)


def by_openblas(layout, m, n, k):
    a = numpy.random.rand(*((k, m) if layout == "tn" else (m, k))).astype("f4")
    b = numpy.random.rand(*((n, k) if layout == "nt" else (k, n))).astype("f4")
    a, b = a.T if layout == "tn" else a, b.T if layout == "nt" else b
    c = numpy.empty((m, n), "f4")
    return lambda: numpy.matmul(a, b, out=c)


def bytes_by_torch(layout, m, n, k):
    """i8 by i8 into i32, without scales."""
    a = torch.randint(-128, 128, (m, k), dtype=torch.int8)
    b = torch.randint(-128, 128, (n, k) if layout == "nt" else (k, n), dtype=torch.int8)
    b = b.t() if layout == "nt" else b
    return lambda: torch._int_mm(a, b)


def session(node, inputs, outputs, weights, feed):
    """A call of a model of one node on one thread."""
    graph = helper.make_graph([node], "product", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    run = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run
    return lambda: run(None, feed)


def bytes_by_onnxruntime(m, n, k):
    """u8 by a weight of i8 into i32, without scales."""
    codes = numpy.random.randint(-128, 128, (k, n)).astype("i1")
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, [m, k])]
    outputs = [helper.make_tensor_value_info("c", TensorProto.INT32, [m, n])]
    node = helper.make_node("MatMulInteger", ["a", "codes"], ["c"])
    weights = [onnx.numpy_helper.from_array(codes, "codes")]
    feed = {"a": numpy.random.randint(0, 256, (m, k)).astype("u1")}
    return session(node, inputs, outputs, weights, feed)


def by_onnxruntime(m, n, k):
    """A product with a weight of 4 bits in blocks of 32, its activations rounded to int8."""
    blocks = k // 32
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, [m, k])]
    outputs = [helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])]
    codes = numpy.random.randint(0, 256, (n, blocks, 16)).astype("u1")
    scales = numpy.random.rand(n * blocks).astype("f4")
    weights = [
        onnx.numpy_helper.from_array(codes, "codes"),
        onnx.numpy_helper.from_array(scales, "scales"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["a", "codes", "scales"], ["c"], domain="com.microsoft",
        K=k, N=n, bits=4, block_size=32, accuracy_level=4,
    )
    feed = {"a": numpy.random.rand(m, k).astype("f4")}
    return session(node, inputs, outputs, weights, feed)


def peers(layout, m, n, k, what):
    """Name and call of each library that has the product."""
    if what == "f32":
        yield "torch", by_torch(layout, m, n, k, torch.float32)
        yield "openblas", by_openblas(layout, m, n, k)
    elif what == "bf16":
        yield "torch", by_torch(layout, m, n, k, torch.bfloat16)
    elif what == "bytes":
        yield "torch", bytes_by_torch(layout, m, n, k)
        if layout == "nn":
            yield "onnxruntime", bytes_by_onnxruntime(m, n, k)
    elif what.startswith("q4"):
        yield "onnxruntime", by_onnxruntime(m, n, k)


def main():
    print("GFLOP/s on one thread; x: Tenon over the best peer")
    for line in open(sys.argv[1]):
        row = json.loads(line)
        layout, *sizes, what = row["product"].split()
        m, n, k = (int(size[1:]) for size in sizes)
        rates = row["gflops"]
        for name, run in peers(layout, m, n, k, what):
            rates[name] = 2e-9 * m * n * k / best(run)
        others = [rate for name, rate in rates.items() if name != "tenon"]
        times = f"(x {rates['tenon'] / max(others):.2f})" if others else ""
        text = "  ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        print(f"{row['product']:32} {text}  {times}", flush=True)
    if "row" in locals():
        print(f"limit: {row['limit_gflops']:.0f} GFLOP/s in f32")


main()
