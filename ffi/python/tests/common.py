"""What the tests share: a small network, and the same one in plain numpy."""

import numpy as np

import tenon

BATCH, INNER, HIDDEN, CLASSES = 32, 20, 32, 5


def weights(seed=0):
    """Parameters of a network of two layers, by name."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (HIDDEN, INNER), "b1": (HIDDEN,), "w2": (CLASSES, HIDDEN), "b2": (CLASSES,)}
    return {name: 0.3 * rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def batch(seed=0):
    """Inputs of a step."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((BATCH, INNER)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, CLASSES, BATCH).astype(np.int32)}


def network(given=None, **share):
    """A graph and its loss: linear, relu, linear, cross-entropy."""
    graph = tenon.Graph()
    x, y = graph.input("x", (BATCH, INNER)), graph.input("y", BATCH, "i32")
    given = weights() if given is None else given
    p = {name: graph.parameter(name, value, **share) for name, value in given.items()}
    hidden = graph.add("relu", graph.add("linear", x, p["w1"], p["b1"]))
    logits = graph.add("linear", hidden, p["w2"], p["b2"])
    graph.output("logits", logits)
    return graph, graph.add("cross_entropy", logits, y, reduction="mean")


def session(**options):
    """A session of the network."""
    return tenon.Session(*network(), **options)


def loss_and_gradients(p, given):
    """The network's loss and its gradients in numpy, in f64."""
    p = {name: value.astype(np.float64) for name, value in p.items()}
    x, y = given["x"].astype(np.float64), given["y"]
    hidden = x @ p["w1"].T + p["b1"]
    active = np.maximum(hidden, 0)
    logits = active @ p["w2"].T + p["b2"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    d_logits = np.exp(logp)
    d_logits[rows, y] -= 1
    d_logits /= len(y)
    d_hidden = (d_logits @ p["w2"]) * (hidden > 0)
    gradients = {
        "w1": d_hidden.T @ x,
        "b1": d_hidden.sum(axis=0),
        "w2": d_logits.T @ active,
        "b2": d_logits.sum(axis=0),
    }
    return -logp[rows, y].mean(), gradients
