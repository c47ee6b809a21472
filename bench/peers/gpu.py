"""Races Tenon's Vulkan backend with torch and llama.cpp on one card; `bench/peers/gpu` calls it.

Tenon's products and rows are timed by the card's own clock (`TENON_VK_TIMES`), torch's by the host over
many calls in a row; steps by the host. Each row's figure is the best of some turns of each in turn.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from torch.nn import functional

FOLDER = tempfile.mkdtemp(prefix="tenon-gpu-")
# Before the library is loaded: it asks once.
os.environ["TENON_VK_TIMES"] = FOLDER
import tenon  # noqa: E402

TURNS = 3


def card():
    """Torch's name of the card, and what waits for it."""
    for name in ("cuda", "xpu", "mps"):
        kind = getattr(torch, name, None)
        if kind is not None and kind.is_available():
            return name, kind.synchronize
    return "cpu", lambda: None


DEVICE, wait = card()


def seconds(run, least=0.05):
    """Of a call among many in a row."""
    run()
    wait()
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        took = time.perf_counter() - start
        if took >= least:
            return took / calls
        calls *= 2


def on_card(context, op, build):
    """Seconds of the nodes of an op in a graph, by the card's clock; None where the CPU ran them."""
    graph = tenon.Graph(context)
    # Something must train; evaluation runs nothing else of it.
    factor = graph.parameter("factor", numpy.ones((), numpy.float32))
    inputs, y = build(graph)
    loss = graph.add("mul", graph.add("reduce_mean", y), factor)
    graph.output("loss", loss)
    before = set(glob.glob(FOLDER + "/*.json"))
    with tenon.Session(graph, loss, lr=0.1) as session:
        for _ in range(3):
            session.evaluate(inputs)
            inputs = None
    took = None
    for path in set(glob.glob(FOLDER + "/*.json")) - before:
        with open(path) as file:
            events = json.load(file)["traceEvents"]
        named = [event["dur"] * 1e-6 for event in events if event["name"] == op]
        took = sum(named) if named else took
        os.remove(path)
    return took


def noise(*shape):
    return numpy.random.default_rng(0).standard_normal(shape, numpy.float32)


def product(layout, m, n, k, kind):
    """A product by Tenon, whose B is in `kind`, as a function of a graph; `bf16` rounds both operands."""

    def build(graph):
        a_shape = (k, m) if layout == "tn" else (m, k)
        b_shape = (n, k) if layout == "nt" else (k, n)
        a, b = graph.input("a", a_shape), graph.input("b", b_shape)
        if kind == "f16":
            b = graph.add("cast", b, dtype="f16")
        elif kind.startswith("q"):
            b = graph.add("quantize", b, format=kind)
        attributes = {"trans_a": layout == "tn", "trans_b": layout == "nt"}
        if kind == "bf16":
            attributes["precision"] = "bf16"
        y = graph.add("matmul", a, b, **attributes)
        return {"a": noise(*a_shape), "b": noise(*b_shape)}, y

    return build


def product_by_torch(layout, m, n, k, dtype):
    a = torch.randn((k, m) if layout == "tn" else (m, k), device=DEVICE).to(dtype)
    b = torch.randn((n, k) if layout == "nt" else (k, n), device=DEVICE).to(dtype)
    a, b = a.t() if layout == "tn" else a, b.t() if layout == "nt" else b
    c = torch.empty(m, n, dtype=dtype, device=DEVICE)
    return lambda: torch.mm(a, b, out=c)


def copying(count):
    """GB/s, read and written, of a copy of so many f32."""
    source = torch.empty(count, device=DEVICE)
    to = torch.empty_like(source)
    return 8 * count / seconds(lambda: to.copy_(source)) * 1e-9


def rows(op, shape):
    """A function of rows by Tenon, and by torch."""

    def build(graph):
        x = graph.input("x", shape)
        if op == "rms_norm":
            weight = graph.parameter("w", numpy.ones(shape[1:], numpy.float32), trainable=False)
            return {"x": noise(*shape)}, graph.add(op, x, weight)
        if op == "add":
            other = graph.input("other", shape)
            return {"x": noise(*shape), "other": noise(*shape)}, graph.add(op, x, other)
        return {"x": noise(*shape)}, graph.add(op, x)

    x, other = (torch.randn(*shape, device=DEVICE) for _ in range(2))
    weight = torch.ones(shape[1:], device=DEVICE)
    by_torch = {
        "softmax": lambda: functional.softmax(x, -1),
        "rms_norm": lambda: functional.rms_norm(x, shape[1:], weight),
        "gelu": lambda: functional.gelu(x),
        "add": lambda: x + other,
    }
    return build, by_torch[op]


class Llama(torch.nn.Module):
    """A model of SmolLM2-135M's shape, as its users train one in torch."""

    def __init__(self, layers=30, dim=576, heads=9, kv=3, inner=1536, vocabulary=49152):
        super().__init__()
        self.heads, self.kv = heads, kv
        self.embedding = torch.nn.Embedding(vocabulary, dim)
        linear = lambda out, into: torch.nn.Linear(into, out, bias=False)  # noqa: E731
        head = dim // heads
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict({
                "before": torch.nn.RMSNorm(dim), "q": linear(dim, dim), "k": linear(kv * head, dim),
                "v": linear(kv * head, dim), "o": linear(dim, dim), "after": torch.nn.RMSNorm(dim),
                "gate": linear(inner, dim), "up": linear(inner, dim), "down": linear(dim, inner),
            })
            for _ in range(layers)
        )
        self.norm = torch.nn.RMSNorm(dim)

    def forward(self, tokens):
        x, length = self.embedding(tokens), tokens.shape[-1]
        dim = x.shape[-1] // self.heads
        rates = 1e5 ** (-torch.arange(0, dim, 2, device=x.device) / dim)
        angles = torch.outer(torch.arange(length, device=x.device), rates)
        cos, sin = torch.cat([angles] * 2, -1).cos(), torch.cat([angles] * 2, -1).sin()

        def turned(x):
            a, b = x.chunk(2, -1)
            return x * cos + torch.cat((-b, a), -1) * sin

        for layer in self.layers:
            y = layer["before"](x)
            q, k, v = (layer[n](y).unflatten(-1, (-1, dim)).transpose(-2, -3) for n in "qkv")
            y = functional.scaled_dot_product_attention(
                turned(q), turned(k), v, is_causal=True, enable_gqa=True
            )
            x = x + layer["o"](y.transpose(-2, -3).flatten(-2))
            y = layer["after"](x)
            x = x + layer["down"](functional.silu(layer["gate"](y)) * layer["up"](y))
        return functional.linear(self.norm(x), self.embedding.weight)


def step_by_torch(length):
    """Seconds of a step of all weights in f32, eager."""
    model = Llama().to(DEVICE)
    tokens = torch.randint(0, 49152, (1, length + 1), device=DEVICE)
    update = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def run():
        update.zero_grad()
        logits = model(tokens[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        update.step()

    return seconds(run)


def rate_of_tenon(given, length, *flags):
    """Tokens a second of the best step of some."""
    command = [given.tenon, "train", "--model", given.model, "--backend", "vulkan", "--json"]
    command += ["--seq", str(length), "--steps", str(given.steps), "--text", "README.md", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "TENON_VK_TIMES"}
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    told = [json.loads(line) for line in lines.splitlines()]
    return max(line["tokens_per_s"] for line in told if "step" in line)


def rate_of_llama(given, length):
    """Tokens a second of a prompt, forward only."""
    command = [given.llama_bench, "-m", given.model, "-p", str(length), "-n", "0", "-ngl", "99"]
    told = subprocess.run([*command, "-o", "json"], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(told)[0]["avg_ts"]


class Table:
    """Rows as they come."""

    def __init__(self, path):
        self.file = open(path, "w") if path else None

    def row(self, name, unit, tenon_rate, peers, roof=None):
        peer = max(peers.values(), default=None)
        text = "  ".join(f"{who} {rate:.4g}" for who, rate in peers.items())
        told = "on the CPU" if tenon_rate is None else f"{tenon_rate:.4g}"
        times = f"  x {tenon_rate / peer:.2f}" if tenon_rate and peer else ""
        of = f"  of {roof:.4g}: {tenon_rate / roof:.2f}" if tenon_rate and roof else ""
        print(f"{name:44} tenon {told}  {text} {unit}{times}{of}", flush=True)
        if self.file:
            figures = {"row": name, "unit": unit, "tenon": tenon_rate, **peers, "roof": roof}
            print(json.dumps(figures), file=self.file, flush=True)


def race(context, op, build, by_torch):
    """The least seconds of both, in turns."""
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(on_card(context, op, build))
        theirs.append(seconds(by_torch))
    return (None if None in ours else min(ours)), min(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenon", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-bench")
    parser.add_argument("--json")
    parser.add_argument("--small", action="store_true", help="sizes for a processor")
    parser.add_argument("--steps", type=int, default=10, help="steps of a model")
    given = parser.parse_args()
    table, side = Table(given.json), 256 if given.small else 4096
    if DEVICE == "cpu":
        print("torch finds no card: it runs on the processor, and the roofs are the processor's")
    context = tenon.Context(backend="vulkan", log=lambda line: print(line, file=sys.stderr))

    half = torch.bfloat16 if DEVICE == "cpu" else torch.float16
    roof = 2 * side**3 / seconds(product_by_torch("nt", side, side, side, half)) * 1e-9
    bandwidth = copying(1 << 24 if given.small else 1 << 28)
    print(f"the card by torch: {roof:.4g} GFLOP/s in {half}, {bandwidth:.4g} GB/s copying")

    shapes = [(side, side, side)]
    shapes += [(64, 96, 64)] if given.small else [(2048, 1536, 576), (2048, 576, 1536)]
    for m, n, k in shapes:
        for layout in ("nt", "nn", "tn"):
            weights = () if layout == "tn" else ("f16", "q8_0", "q4_0", "q4_1")
            for kind in ("f32", "bf16", *weights):
                dtype = half if kind != "f32" else torch.float32
                peer = product_by_torch(layout, m, n, k, dtype)
                ours, theirs = race(context, "matmul", product(layout, m, n, k, kind), peer)
                work = 2 * m * n * k * 1e-9
                name = f"product {layout} m{m} n{n} k{k} {kind}"
                rate = work / ours if ours else None
                table.row(name, "GFLOP/s", rate, {"torch": work / theirs}, roof)
    shape = (256, 1024) if given.small else (16384, 1024)
    for op in ("softmax", "rms_norm", "gelu", "add"):
        ours, theirs = race(context, op, *rows(op, shape))
        work = shape[0] * shape[1] * 4e-9 * (3 if op == "add" else 2)
        rate = work / ours if ours else None
        table.row(f"{op} {shape[0]}x{shape[1]}", "GB/s", rate, {"torch": work / theirs}, bandwidth)

    length = 32 if given.small else 256
    full = rate_of_tenon(given, length, "--full")
    theirs = {"torch": length / step_by_torch(length)}
    table.row(f"SmolLM2-135M, step of all weights, {length}", "tokens/s", full, theirs)
    lora = rate_of_tenon(given, length, "--lora", "8")
    table.row(f"SmolLM2-135M Q4_1, step of LoRA, {length}", "tokens/s", lora, {})
    if given.llama_bench:
        prompt = {"llama.cpp, forward only": rate_of_llama(given, length)}
        table.row(f"SmolLM2-135M Q4_1, the same beside a prompt, {length}", "tokens/s", lora, prompt)


main()
