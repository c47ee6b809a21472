"""Runs Tenon's side of the race (the command of the arguments), and between its rounds the same with
torch (oneDNN), onnxruntime and OpenBLAS, all on one thread; prints the rows as a table."""

import json
import subprocess
import sys
import time

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.nn import functional

# Seconds of a library in a round, or one call.
TURN = 0.06
torch.set_num_threads(1)


def best(run):
    """Least seconds of a call in a turn."""
    least, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < TURN:
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


def product(layout, *words):
    """Matrix products, all into new or given memory as their users would."""
    *sizes, what = words
    m, n, k = (int(size[1:]) for size in sizes)
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


def gradient(y, inputs):
    """A call of the backward pass alone."""
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def attention(kind, *sizes):
    s, heads, kv, d = (int(size.lstrip("shkvd")) for size in sizes)
    q, k, v = (torch.randn(1, n, s, d) for n in (heads, kv, kv))

    def forward():
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv < heads)

    if kind == "both":
        inputs = [x.requires_grad_() for x in (q, k, v)]
        dy = torch.randn_like(q)
        yield "torch", lambda: torch.autograd.grad(forward(), inputs, dy)
    else:
        yield "torch", forward


def rope(x, cos, sin):
    """As Hugging Face's models have it, for heads of 64 at one position."""
    heads = x.unflatten(-1, (-1, 64))
    a, b = heads.chunk(2, -1)
    return heads * cos + torch.cat((-b, a), -1) * sin


def stream(kernel, shape):
    """Rows and elementwise functions; of a backward pass only what leads to the rows."""
    rows, cols = (int(size) for size in shape.split("x"))
    x, other = torch.randn(rows, cols), torch.randn(rows, cols)
    w, b, cos, sin = torch.rand(cols), torch.rand(cols), torch.rand(64), torch.rand(64)
    targets = torch.arange(rows) % cols
    forward = {
        "softmax": lambda: functional.softmax(x, -1),
        "log_softmax": lambda: functional.log_softmax(x, -1),
        "layer_norm": lambda: functional.layer_norm(x, (cols,), w, b),
        "rms_norm": lambda: functional.rms_norm(x, (cols,), w),
        "add_rms_norm": lambda: functional.rms_norm(x + other, (cols,), w),
        "rope": lambda: rope(x, cos, sin),
        "cross_entropy": lambda: functional.cross_entropy(x, targets),
        "gelu": lambda: functional.gelu(x),
        "gelu_tanh": lambda: functional.gelu(x, approximate="tanh"),
        "silu": lambda: functional.silu(x),
        "silu_mul": lambda: functional.silu(x) * other,
        "exp": lambda: torch.exp(x),
        "log": lambda: torch.log(x),
        "tanh": lambda: torch.tanh(x),
        "erf": lambda: torch.erf(x),
        "add": lambda: x + other,
        "dropout": lambda: functional.dropout(x, 0.1),
        "grad_norm": lambda: torch.linalg.vector_norm(x),
    }
    name = kernel.removesuffix("_grad")
    if kernel == "adamw":
        x.grad = other
        yield "torch", torch.optim.AdamW([x], fused=True).step
    elif kernel in forward:
        yield "torch", forward[kernel]
    elif name in forward:
        x.requires_grad_()
        yield "torch", gradient(forward[name](), x)


def step(optimizer, example, *layers):
    """A training step of a network by the description that `bench/benches/nets` explains."""
    modules, shape = [], [int(size) for size in example.split("x")]
    for place, layer in enumerate(layers, 1):
        if layer == "p":
            modules.append(torch.nn.MaxPool2d(2))
        elif layer[0] == "c":
            out, kernel = (int(size) for size in layer[1:].split("k"))
            modules.append(torch.nn.LazyConv2d(out, kernel, padding=kernel // 2))
        else:
            modules += [torch.nn.Flatten(), torch.nn.LazyLinear(int(layer[1:]))]
        if layer != "p" and place < len(layers):
            modules.append(torch.nn.ReLU())
    net, x, targets = torch.nn.Sequential(*modules), torch.randn(64, *shape), torch.arange(64) % 10
    net(x)
    weights = net.parameters()
    if optimizer == "sgd":
        update = torch.optim.SGD(weights, lr=1e-3, fused=True)
    else:
        update = torch.optim.Adam(weights, lr=1e-3, fused=True)

    def run():
        update.zero_grad()
        functional.cross_entropy(net(x), targets).backward()
        update.step()

    yield "torch", run


PEERS = {"product": product, "attention": attention, "stream": stream, "step": step}


def objects(name, unit, work, rates):
    """A row's figures as `tenon bench --json` has them, a library each."""
    kind, *words = name.split()
    dtype = words.pop() if kind == "product" else "f32"
    if kind == "product":
        kind += " " + words.pop(0)
    elif kind != "step":
        kind = words.pop(0) if kind == "stream" else f"{kind} {words.pop(0)}"
    for library, rate in rates.items():
        figure = {"GFLOP/s": "gflops", "GB/s": "gbps"}.get(unit, "per_second")
        yield {
            "kernel": kind, "shape": " ".join(words), "dtype": dtype, "backend": library, "threads": 1,
            "median_s": work / rate, figure: rate,
        }


def main():
    """`pypi.py [--json FILE] COMMAND...`."""
    command, file = sys.argv[1:], None
    if command[0] == "--json":
        file, command = open(command[1], "w"), command[2:]
    print("one thread; x: Tenon over the best peer; of: Tenon over the limit", flush=True)
    name = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rust:
        for line in rust.stdout:
            row = json.loads(line)
            if row["row"] != name:
                name, rates = row["row"], {}
                kind, *words = name.split()
                calls = list(PEERS[kind](*words))
            for peer, call in calls:
                rates[peer] = max(rates.get(peer, 0), row["work"] / best(call))
            if row["left"] == 0:
                rates = row["rates"] | rates
                if file:
                    for figures in objects(name, row["unit"], row["work"], rates):
                        print(json.dumps(figures), file=file, flush=True)
                tenon, limit = rates["tenon"], rates.pop("limit", None)
                others = [rate for peer, rate in rates.items() if peer != "tenon"]
                text = "  ".join(f"{peer} {rate:.4g}" for peer, rate in rates.items())
                times = f"  x {tenon / max(others):.2f}" if others else ""
                of = f"  of {limit:.4g}: {tenon / limit:.2f}" if limit else ""
                print(f"{name:44} {text} {row['unit']}{times}{of}", flush=True)
            rust.stdin.write("\n")
            rust.stdin.flush()


main()
