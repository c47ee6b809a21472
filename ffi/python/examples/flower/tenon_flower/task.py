"""What is trained, alike on clients and server: sessions, batches, and how good a model is."""

import numpy as np

import tenon

# Digits: neurons between the pixels and the ten answers.
HIDDEN = 512


def read(path):
    """Examples by the names of a session's inputs."""
    with np.load(path) as arrays:
        return dict(arrays)


def session(config, data, **options):
    """A session of the task for batches of this data, and how many examples a batch has."""
    if config["task"] == "digits":
        size = min(16, len(data["y"]))
        graph, loss = network(size, data["x"].shape[1])
        how = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, **options}
        return tenon.Session(graph, loss, **how), size
    seq = data["tokens"].shape[1]
    model = tenon.Model.load(config["model"], seq=seq, lora=8)
    return tenon.Session(model, **{"lr": 1e-3, "clip_norm": 1.0, **options}), 1


def network(batch, pixels):
    """A perceptron: its first weights are drawn, alike wherever this runs."""
    rng, graph = np.random.default_rng(1), tenon.Graph()
    x, y = graph.input("x", (batch, pixels)), graph.input("y", batch, "i32")
    for layer, (inner, outer) in enumerate([(pixels, HIDDEN), (HIDDEN, 10)]):
        drawn = (
            rng.standard_normal((outer, inner)).astype(np.float32) * np.float32(2 / inner) ** 0.5
        )
        weight = graph.parameter(f"layer{layer}.weight", drawn)
        bias = graph.parameter(f"layer{layer}.bias", shape=outer)
        x = graph.add("linear", graph.add("relu", x) if layer else x, weight, bias)
    graph.output("logits", x)
    return graph, graph.add("cross_entropy", x, y, reduction="mean")


def count(data):
    """How many examples there are."""
    return len(next(iter(data.values())))


def batch(data, rows):
    """Inputs of a step: some examples. What a model should answer comes in one dimension."""
    flat = ("y", "targets")
    return {name: a[rows].reshape(-1) if name in flat else a[rows] for name, a in data.items()}


def batches(data, size, steps, seed):
    """So many batches, in an order of its own for every seed; each example once before any twice."""
    rng, order = np.random.default_rng(seed), np.empty(0, int)
    for _ in range(steps):
        if len(order) < size:
            order = np.concatenate([order, rng.permutation(count(data))])
        rows, order = order[:size], order[size:]
        yield batch(data, rows)


def judge(model, data, size):
    """The mean loss of data, and the percentage of right answers where a model gives answers."""
    losses, right = [], []
    for start in range(0, count(data) - size + 1, size):
        given = batch(data, np.arange(start, start + size))
        losses.append(model.evaluate(given))
        if "y" in given:
            right.append(100 * (model.read("logits").argmax(axis=1) == given["y"]).mean())
    return float(np.mean(losses)), float(np.mean(right)) if right else None
