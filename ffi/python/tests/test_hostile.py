"""What nobody should do: each is refused with a reason, and the session is as it was."""

import os
import tempfile
import unittest

import numpy as np
from common import BATCH, CLASSES, INNER, batch, network, session

import tenon


class Hostile(unittest.TestCase):
    def setUp(self):
        self.good, self.twin = session(), session()

    def tearDown(self):
        """Of two alike only one was treated badly."""
        for step in range(2):
            self.assertEqual(self.good.step(batch(step)), self.twin.step(batch(step)))
        np.testing.assert_array_equal(self.good.flat_parameters(), self.twin.flat_parameters())

    def test_batches(self):
        x, y = batch()["x"], batch()["y"]
        bad = [
            {"x": x.astype(np.float64), "y": y},
            {"x": x.astype(np.float16), "y": y},
            {"x": x.astype(">f4"), "y": y},
            {"x": x, "y": y.astype(np.int64)},
            {"x": x, "y": y.astype(np.uint32)},
            {"x": x[1:], "y": y},
            {"x": x.T, "y": y},
            {"x": x.ravel(), "y": y},
            {"x": x[None], "y": y},
            {"x": x, "y": y[:, None]},
            {"x": x, "y": np.int32(3)},
            {"x": [[1.0]], "y": y},
            {"x": None, "y": y},
            {"x": "words", "y": y},
            {"x": object(), "y": y},
            {"x": np.array([["a"]], object), "y": y},
        ]
        for given in bad:
            with self.assertRaises(tenon.ShapeError):
                self.good.step(given)
        for name in ("z", "", "w1\0", "logits", "loss"):
            with self.assertRaises((tenon.Error, ValueError)):
                self.good.step({"x": x, name: y})
        with self.assertRaises(tenon.ShapeError):  # An index outside its table.
            self.good.step({"x": x, "y": np.full(BATCH, CLASSES, np.int32)})

    def test_nothing_is_written_where_something_does_not_fit(self):
        x = self.good.read("x")
        with self.assertRaises(tenon.ShapeError):
            self.good.step({"x": x + 1, "y": batch()["x"]})
        np.testing.assert_array_equal(self.good.read("x"), x)
        before = self.good.flat_parameters()
        with self.assertRaises(tenon.ShapeError):
            self.good.set_parameters({"w1": np.zeros_like(before), "b1": np.zeros(3, np.float32)})
        with self.assertRaises(tenon.ArgumentError):
            self.good.set_parameters({"b2": np.zeros(CLASSES, np.float32), "b3": before})
        np.testing.assert_array_equal(self.good.flat_parameters(), before)

    def test_arrays_that_are_not_contiguous(self):
        """Are read as what they show."""
        wide = np.zeros((BATCH, 2 * INNER), np.float32)
        wide[:, ::2] = batch()["x"]
        y = np.flip(np.flip(batch()["y"]).copy())
        x = np.asfortranarray(batch()["x"])
        want = self.twin.evaluate(batch())
        for strided in (wide[:, ::2], x):
            self.assertFalse(strided.flags.c_contiguous)
            self.assertEqual(self.good.evaluate({"x": strided, "y": y}), want)

    def test_a_session_that_nothing_was_written_to(self):
        s = session()
        with self.assertRaisesRegex(tenon.ArgumentError, "never written"):
            s.step()
        with self.assertRaises(tenon.ArgumentError):
            s.read("logits")
        with self.assertRaises(tenon.NotFoundError):
            s.read("grad/w1")
        s.step(batch())
        with self.assertRaisesRegex(tenon.ArgumentError, "keep_gradients"):
            s.gradients()

    def test_what_is_closed(self):
        s = session()
        tensor = s.tensor("w1")
        with s:
            self.assertFalse(s.closed)
        self.assertTrue(s.closed)
        s.close()
        calls = [
            s.step,
            s.evaluate,
            s.plan,
            s.parameters,
            s.parameter_list,
            s.gradients,
            s.flat_parameters,
            lambda: s.step(batch()),
            lambda: s.write("x", batch()["x"]),
            lambda: s.read("x"),
            lambda: s.save("unused"),
            lambda: s.load("unused"),
            lambda: s.set_memory_budget(0),
            tensor.__dlpack__,
        ]
        for call in calls:
            with self.assertRaisesRegex(tenon.ArgumentError, "the session is closed"):
                call()
        graph, loss = network()
        graph.close()
        for call in (graph.dump, lambda: graph.plan(loss), lambda: tenon.Session(graph, loss)):
            with self.assertRaisesRegex(tenon.ArgumentError, "the graph is closed"):
                call()

    def test_options(self):
        graph, loss = network()
        for wrong in ({"rate": 1}, {"struct_size": 1}, {"unused": 1}):
            with self.assertRaises(TypeError):
                tenon.Session(graph, loss, **wrong)
        for wrong in (
            {"optimizer": "lion"},
            {"optimizer": "bf16"},
            {"optimizer": 2},
            {"state": "f64"},
            {"lr": float("nan")},
            {"clip_norm": -1.0},
            {"beta1": 1.0},
            {"schedule": "x"},
        ):
            with self.assertRaises(ValueError):
                tenon.Session(graph, loss, **wrong)
        for wrong in (
            {"lr": "fast"},
            {"lr": None},
            {"accumulation": 1.5},
            {"accumulation": 1 << 40},
            {"total_steps": -1},
        ):
            with self.assertRaises((TypeError, OverflowError)):
                tenon.Session(graph, loss, **wrong)
        with self.assertRaises(tenon.Error):
            tenon.Session(graph)
        other, other_loss = network()
        with self.assertRaisesRegex(tenon.ArgumentError, "another graph"):
            tenon.Session(graph, other_loss)
        with self.assertRaisesRegex(tenon.ArgumentError, "another graph"):
            graph.add("relu", other_loss)
        with self.assertRaises(TypeError):
            graph.add("relu", 3)

    def test_graphs(self):
        graph = tenon.Graph()
        x = graph.input("x", (2, 3))
        with self.assertRaises(tenon.NotFoundError):
            graph.add("nonsense", x)
        with self.assertRaises(tenon.ArgumentError):
            graph.add("relu", x, slope=1.0)
        with self.assertRaises(tenon.ShapeError):
            graph.add("matmul", x, x)
        with self.assertRaises(tenon.GraphError):
            graph.input("x", 3)
        with self.assertRaises(tenon.ArgumentError):
            graph.input("n", (-1, 2))
        with self.assertRaises(tenon.ArgumentError):
            graph.input("n", [1] * 9)
        with self.assertRaises(tenon.ShapeError):
            graph.input("n", (1 << 40, 1 << 40))
        with self.assertRaises(OverflowError):
            graph.input("n", 1 << 70)
        with self.assertRaises(tenon.ShapeError):
            graph.input("n", 3, "f64")
        with self.assertRaises(tenon.ArgumentError):
            graph.parameter("p")
        with self.assertRaises(tenon.ArgumentError):
            graph.parameter("p", np.ones(3, np.float32), shape=3)
        with self.assertRaises(tenon.GraphError):
            graph.parameter("p", np.ones(3, np.int32))
        with self.assertRaises(TypeError):
            graph.add("reshape", x, shape=object())
        self.assertEqual(graph.input("n", 3, np.int32).shape, (3,))

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            for content in (b"", b"GGUF", b"GGUF" + b"\xff" * 100):
                with open(path, "wb") as file:
                    file.write(content)
                with self.assertRaises((tenon.FormatError, tenon.FileError)):
                    tenon.Model.load(path)
                with self.assertRaises((tenon.FormatError, tenon.FileError)):
                    self.good.load(path)
            with self.assertRaises(tenon.Error):
                tenon.Model.load(os.path.join(folder, "none"))
            for wrong in ({"lora": 0}, {"dtype": "f64"}, {"wire": "sgd"}):
                with self.assertRaises(ValueError):
                    tenon.Model.load(path, **wrong)


if __name__ == "__main__":
    unittest.main()
