"""What a step costs more from Python than from C: a tiny network, both inputs written each time.

    cargo build --profile dist -p tenon && pip install ./ffi/python
    python ffi/python/tests/overhead.py

Needs a C compiler. Prints the best of several rounds, the two in turn.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import tenon

BATCH, ROUNDS, STEPS = 4, 20, 2000
ROOT = Path(__file__).resolve().parents[3]


def from_c():
    """Microseconds a step."""
    with tempfile.TemporaryDirectory() as folder:
        libraries = ROOT / "target/dist"
        command = ["cc", "-O2", "-I", ROOT / "ffi/include", Path(__file__).with_suffix(".c")]
        command += ["-L", libraries, "-ltenon", f"-Wl,-rpath,{libraries}", "-o", f"{folder}/steps"]
        subprocess.run(command, check=True)
        return float(subprocess.run([f"{folder}/steps"], check=True, stdout=subprocess.PIPE).stdout)


def from_python():
    """Microseconds a step."""
    graph = tenon.Graph(tenon.Context(threads=1))
    x, y = graph.input("x", (BATCH, 2)), graph.input("y", BATCH, "i32")
    logits = graph.add("linear", x, graph.parameter("w", shape=(3, 2)))
    loss = graph.add("cross_entropy", logits, y, reduction="mean")
    session = tenon.Session(graph, loss, optimizer="sgd")
    batch = {"x": np.zeros((BATCH, 2), np.float32), "y": np.zeros(BATCH, np.int32)}
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(STEPS):
            session.step(batch)
        best = min(best, (time.perf_counter() - start) / STEPS * 1e6)
    return best


if __name__ == "__main__":
    rounds = [(from_c(), from_python()) for _ in range(3)]
    c, python = (min(side) for side in zip(*rounds))
    print(f"C {c:.1f} us, Python {python:.1f} us: {python - c:.1f} us more a step")
