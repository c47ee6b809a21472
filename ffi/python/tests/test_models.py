"""Models from files, and the examples, as programs of their own."""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import numpy as np

import tenon

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

#: A GGUF file of SmolLM2-135M with 4-bit weights.
MODEL = os.environ.get("TENON_MODEL", "")


def run(name, *arguments):
    """What an example prints; it must succeed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        return subprocess.run(
            command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


class Examples(unittest.TestCase):
    def test_train_mlp(self):
        self.assertIn("of 64 right", run("train_mlp.py"))

    def test_federated(self):
        for how in (["plain"], ["masked"], ["compressed", "--private"]):
            self.assertRegex(run("federated.py", *how), r"round 10 .* bytes from each client")

    def test_the_readmes(self):
        readme = (EXAMPLES.parents[2] / "README.md").read_text(encoding="utf-8")
        snippet, seen = re.findall(r"```python\n(.*?)```", readme, re.DOTALL), {}
        self.assertEqual(len(snippet), 1)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(snippet[0], "README.md", "exec"), seen)
        self.assertIn("bytes at most", out.getvalue())
        self.assertLess(seen["report"].loss, 0.4)

    @unittest.skipUnless(MODEL, "TENON_MODEL names no model")
    def test_finetune_lora(self):
        out = run("finetune_lora.py", MODEL, "2")
        self.assertIn("planned peak", out)
        self.assertIn('loaded ("the first text")', out)


@unittest.skipUnless(MODEL, "TENON_MODEL names no model")
class Models(unittest.TestCase):
    SEQ = 16

    def batch(self):
        tokens = np.arange(100, 100 + self.SEQ, dtype=np.int32)
        return {"tokens": tokens[None], "targets": np.roll(tokens, -1)}

    def test_lora_leaves_the_file_alone(self):
        model = tenon.Model.load(MODEL, seq=self.SEQ, lora=4, lora_targets="q_proj,v_proj", seed=3)
        s = tenon.Session(model, lr=1e-3)
        model.close()
        adapters = s.parameters()
        self.assertEqual(len(adapters), 120)
        self.assertTrue(all(4 in array.shape for array in adapters.values()))
        frozen = {p.name: p for p in s.parameter_list() if not p.trainable}
        name = next(n for n, p in frozen.items() if p.dtype == "q4_1")
        blocks = s.tensor(name)
        self.assertTrue(blocks.readonly)
        self.assertEqual((blocks.dtype, blocks.nbytes), ("u8", frozen[name].size))
        array = np.asarray(blocks)
        with self.assertRaises(ValueError):
            array[0] = 1
        with self.assertRaises(tenon.ArgumentError):
            s.set_parameters({name: array})
        with self.assertRaises(BufferError):
            blocks.__dlpack__()
        self.assertFalse(np.from_dlpack(blocks).flags.writeable)
        first = s.step(self.batch()).loss
        for _ in range(3):
            last = s.step(self.batch()).loss
        self.assertLess(last, first)

    def test_an_empty_model_takes_what_a_server_sends(self):
        """A device has what a GGUF says of itself, without weights; a server has the whole file."""
        full = tenon.Session(tenon.Model.load(MODEL, seq=self.SEQ), lr=1e-3)
        weights = sum(p.size for p in full.parameter_list() if not p.trainable)
        with tempfile.TemporaryDirectory() as folder:
            head = Path(folder) / "head.gguf"
            with open(MODEL, "rb") as file:
                head.write_bytes(file.read(os.path.getsize(MODEL) - weights))
            with self.assertRaises(tenon.FormatError):
                tenon.Model.load(head, seq=self.SEQ)
            model = tenon.Model.load(head, seq=self.SEQ, empty=True)
        s = tenon.Session(model, lr=1e-3)
        self.assertEqual(s.parameter_list(), full.parameter_list())
        self.assertAlmostEqual(s.evaluate(self.batch()), np.log(49152), places=4)
        full.step(self.batch())
        for p in full.parameter_list():
            if not p.trainable:
                s.write(p.name, full.read_bytes(p.name))
        adapters = full.flat_parameters("adapters")
        np.testing.assert_array_equal(adapters, full.flat_parameters())
        s.set_flat_parameters(adapters, "adapters")
        self.assertEqual(s.evaluate(self.batch()), full.evaluate(self.batch()))
        np.testing.assert_array_equal(s.flat_parameters("all"), full.flat_parameters("all"))
        # And trains from there as the whole file does.
        full = tenon.Session(tenon.Model.load(MODEL, seq=self.SEQ), lr=1e-3)
        full.set_flat_parameters(adapters)
        for _ in range(2):
            self.assertEqual(s.step(self.batch()), full.step(self.batch()))
        np.testing.assert_array_equal(s.difference(adapters), full.difference(adapters))

    def test_sessions_of_a_model_run_side_by_side(self):
        model, losses = tenon.Model.load(MODEL, seq=self.SEQ), {}

        def train(i):
            s = tenon.Session(model, lr=1e-3)
            losses[i] = [s.step(self.batch()).loss for _ in range(3)]

        threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(losses[0], losses[1])

    def test_parts(self):
        given = self.batch()
        whole = tenon.Session(tenon.Model.load(MODEL, seq=self.SEQ))
        want = whole.evaluate(given)
        front, back = (
            tenon.Session(tenon.Model.load(MODEL, seq=self.SEQ, frozen=True, wire="bf16", **cut))
            for cut in ({"end_layer": 15}, {"first_layer": 15})
        )
        self.assertEqual(front.evaluate({"tokens": given["tokens"]}), 0)
        sent = {"hidden/15": front.read_bytes("hidden/15")}
        got = back.evaluate({**sent, "targets": given["targets"]})
        self.assertAlmostEqual(got, want, delta=0.02)

    def test_precisions_and_plans(self):
        plans, losses = {}, {}
        for dtype in ("f32", "bf16", "int8"):
            model = tenon.Model.load(MODEL, seq=self.SEQ, dtype=dtype, logits=True)
            plans[dtype] = model.plan()
            s = tenon.Session(model)
            losses[dtype] = s.evaluate(self.batch())
            self.assertEqual(s.tensor("logits").shape[-1], 49152)
        self.assertEqual(s.plan().planned_peak_bytes, plans["int8"].planned_peak_bytes)
        for dtype in ("bf16", "int8"):
            self.assertAlmostEqual(losses[dtype], losses["f32"], delta=0.1)
            self.assertNotEqual(losses[dtype], losses["f32"])
        whole = tenon.Model.load(MODEL, seq=self.SEQ, lora=None).plan()
        self.assertGreater(whole.owned_bytes, 10 * plans["f32"].owned_bytes)
        with self.assertRaises(tenon.ArgumentError):
            tenon.Session(model, tenon.Graph().parameter("p", shape=1))


if __name__ == "__main__":
    unittest.main()
