"""Four clients in one process learn to read digits together, none of which shows its own to another.

    pip install ./ffi/python
    python ffi/python/examples/federated.py [plain|compressed|masked] [--private]

What a client sends each round is its update: as it is; compressed, a tenth of it in 4 bits each; or
under masks that cancel in the sum, so that the server learns the sum alone. With --private each step
clips what a single image can do, and hides it in noise. Exits with 1 if they did not learn.
"""

import secrets
import sys

import numpy as np
from train_mlp import BATCH, build, draw

import tenon
from tenon import federated

CLIENTS, ROUNDS, STEPS = 4, 10, 150


class Client:
    """A device: data that stays there, and what its session has learnt of it."""

    def __init__(self, number, private):
        self.number, self.rng = number, np.random.default_rng(100 + number)
        x, digits = draw(self.rng, 6000)
        # It sees five of the ten digits, and others of them than its neighbour.
        seen = (digits - 2 * number) % 10 < 5
        self.x, self.digits = x[seen], digits[seen]
        how = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5}
        if private:
            noise = {"noise_multiplier": 0.5, "noise_seed": secrets.randbits(63) + 1}
            how |= {"sample_clip_norm": 1.0, "samples": BATCH, **noise}
        self.session = tenon.Session(*build(np.random.default_rng(1)), **how)
        self.residual = np.zeros_like(self.session.flat_parameters())

    def learn(self, start):
        """A round: from the server's parameters to an update."""
        self.session.set_flat_parameters(start)
        for _ in range(STEPS):
            rows = self.rng.choice(len(self.x), BATCH, replace=False)
            self.session.step({"x": self.x[rows], "digits": self.digits[rows]})
        return self.session.difference(start)


def plain(clients, updates, number):
    """The sum of the updates, and the bytes that a client sent."""
    total = np.zeros_like(updates[0])
    for update in updates:
        federated.accumulate(total, update)
    return total, updates[0].nbytes


def compressed(clients, updates, number):
    """What was not sent stays in a client's residual, and goes with its next update."""
    total = np.zeros_like(updates[0])
    for client, update in zip(clients, updates):
        how = {"keep": len(update) // 10, "bits": 4, "seed": client.number, "round": number}
        sent = federated.compress(update, client.residual, **how)
        federated.add(total, sent)
    return total, len(sent)


# What each two clients share, and no one else knows.
SEEDS = {(i, j): secrets.randbits(63) for i in range(CLIENTS) for j in range(i)}


def masked(clients, updates, number):
    """Of each two clients, one adds words that the other takes away."""
    fixed, total = federated.FixedPoint(clip=8.0, clients=CLIENTS), None
    for client, update in zip(clients, updates):
        words = fixed.encode(update)
        pairs = [(pair, seed) for pair, seed in SEEDS.items() if client.number in pair]
        masks = [federated.Mask(seed, number, pair[0] == client.number) for pair, seed in pairs]
        federated.mask(words, masks)
        if total is None:
            total = words
        else:
            federated.secure_add(total, words)
    return fixed.decode(total), words.nbytes


def main():
    ways = {way.__name__: way for way in (plain, compressed, masked)}
    private = "--private" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--private"] or ["plain"]
    if len(names) != 1 or names[0] not in ways:
        sys.exit(__doc__)

    clients = [Client(number, private) for number in range(CLIENTS)]
    server = tenon.Session(*build(np.random.default_rng(1)))
    start = server.flat_parameters()
    x, digits = draw(np.random.default_rng(2), BATCH)
    for number in range(ROUNDS + 1):
        if number:
            updates = [client.learn(start) for client in clients]
            total, sent = ways[names[0]](clients, updates, number)
            federated.accumulate(start, total, 1 / CLIENTS)
        server.set_flat_parameters(start)
        loss = server.evaluate({"x": x, "digits": digits})
        right = int((server.read("logits").argmax(axis=1) == digits).sum())
        size = f"{sent} bytes from each client" if number else ""
        print(f"round {number}  unseen: loss {loss:.4f}, {right:2} of {BATCH} right  {size}")
    return 0 if right > BATCH / 2 else 1


if __name__ == "__main__":
    sys.exit(main())
