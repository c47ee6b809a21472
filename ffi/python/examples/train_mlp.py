"""Trains a small network to read digits that are drawn here: 8 x 8 pixels, shifted and noisy.

    pip install ./ffi/python
    python ffi/python/examples/train_mlp.py

Prints the loss as it falls, and how many unseen digits it reads right. Exits with 1 if it did not
learn.
"""

import sys

import numpy as np

import tenon

BATCH, HIDDEN, STEPS = 64, 48, 300

# Each digit in five rows of three pixels, a row three bits.
FONT = ["75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75717"]


def draw(rng, count):
    """Images of digits, f32 [count, 64], and which digit each is, i32 [count]."""
    glyphs = np.array([[[int(row) >> (2 - i) & 1 for i in range(3)] for row in d] for d in FONT])
    digits = rng.integers(0, 10, count)
    images = 0.2 * rng.standard_normal((count, 8, 8))
    for image, digit in zip(images, digits):
        top, left = rng.integers(1, 3), rng.integers(2, 4)
        image[top : top + 5, left : left + 3] += glyphs[digit]
    return images.reshape(count, 64).astype(np.float32), digits.astype(np.int32)


def build(rng):
    """The graph and its loss: operators by name, each with what it reads and its attributes."""
    graph = tenon.Graph()
    x, digits = graph.input("x", (BATCH, 64)), graph.input("digits", BATCH, "i32")
    for layer, (inner, outer) in enumerate([(64, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 10)]):
        if layer:
            x = graph.add("relu", x)
        drawn = rng.standard_normal((outer, inner)).astype(np.float32) * np.float32(inner**-0.5)
        weight = graph.parameter(f"layer{layer}.weight", drawn)
        bias = graph.parameter(f"layer{layer}.bias", shape=outer)
        x = graph.add("linear", x, weight, bias)
    graph.output("logits", x)
    return graph, graph.add("cross_entropy", x, digits, reduction="mean")


def main():
    rng = np.random.default_rng(1)
    graph, loss = build(rng)
    session = tenon.Session(graph, loss, lr=0.005, schedule="linear", total_steps=STEPS)
    print(f"{session.plan().nodes} nodes, {session.plan().planned_peak_bytes} bytes at most")
    first = report = None
    for step in range(1, STEPS + 1):
        x, digits = draw(rng, BATCH)
        report = session.step({"x": x, "digits": digits})
        first = first or report
        if step == 1 or step % 50 == 0:
            print(f"step {step:3}  loss {report.loss:.4f}")
    x, digits = draw(rng, BATCH)
    unseen = session.evaluate({"x": x, "digits": digits})
    right = int((session.read("logits").argmax(axis=1) == digits).sum())
    print(f"unseen    loss {unseen:.4f}, {right} of {BATCH} right")
    return 0 if report.loss < 0.3 * first.loss and right > 0.8 * BATCH else 1


if __name__ == "__main__":
    sys.exit(main())
