"""What goes wrong with clients, on purpose: to show that a round gets over it."""

import time

import numpy as np

from tenon import federated


def wait_to_be_killed(node, number, step, steps):
    """In the middle of the second round, waits until the whole device goes."""
    if node.get("fault") == "killed" and number == 2 and step == steps // 2:
        with open(str(node["progress"]) + ".ready", "w"):
            time.sleep(3600)


def garbage(sent, number):
    """Bytes of an update that no server should take; another kind in each round."""
    count = federated.inspect(sent).elements
    kinds = [
        lambda: np.random.default_rng(number).bytes(len(sent)),  # noise
        lambda: sent[: len(sent) // 2],  # a part
        lambda: federated.compress(np.ones(count + 1, np.float32)),  # of another model
        lambda: federated.compress(np.full(count, 1e30, np.float32)),  # numbers beyond reason
        lambda: sent[:32] + b"\xff" * (len(sent) - 32),  # no numbers at all
    ]
    return kinds[(number - 1) % len(kinds)]()
