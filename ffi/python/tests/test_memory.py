"""Shared memory: that it is, and for how long."""

import gc
import itertools
import os
import threading
import unittest
import weakref

import numpy as np
from common import batch, loss_and_gradients, network, session, weights

import tenon

try:
    import torch
except ImportError:
    torch = None
# Where torch is to be tested, that it is missing must not pass unseen.
if os.environ.get("TENON_TEST_TORCH") == "1" and torch is None:
    raise ImportError("TENON_TEST_TORCH is set, but there is no torch")

needs_torch = unittest.skipIf(torch is None, "torch is not installed")


class Views(unittest.TestCase):
    def test_parameters_are_the_sessions_memory(self):
        s = session(optimizer="sgd", lr=0.1)
        one, two = s.parameters(), s.parameters()
        for name, array in one.items():
            self.assertEqual(array.ctypes.data, two[name].ctypes.data)
            self.assertEqual(array.ctypes.data, s.tensor(name).ptr)
            self.assertTrue(array.flags.writeable and array.flags.c_contiguous)
        w = one["w1"]
        before = w.copy()
        s.step(batch())
        self.assertTrue((w != before).any())
        # Written there, the next step reads it.
        for name, array in one.items():
            array[...] = weights(7)[name]
        want, _ = loss_and_gradients(weights(7), batch())
        self.assertAlmostEqual(s.evaluate(batch()), want, places=5)
        # And so by name.
        s.set_parameters({"w1": before})
        np.testing.assert_array_equal(w, before)

    def test_sessions_of_a_graph_share_parameters(self):
        graph, loss = network()
        one, two = tenon.Session(graph, loss), tenon.Session(graph, loss, optimizer="sgd")
        for name, array in one.parameters().items():
            self.assertEqual(array.ctypes.data, two.parameters()[name].ctypes.data)

    def test_a_view_keeps_its_session(self):
        s = session()
        gone = weakref.ref(s)
        view = s.parameters()["w1"]
        part = view[3:5].T
        del s, view
        gc.collect()
        self.assertIsNotNone(gone())
        np.testing.assert_array_equal(part.T, weights()["w1"][3:5])
        gone().step(batch())
        self.assertFalse(np.array_equal(part.T, weights()["w1"][3:5]))
        del part
        self.assertIsNone(gone())

    def test_a_closed_sessions_views_stay_valid(self):
        s = session()
        s.step(batch())
        views = [
            s.parameters()["w1"],
            np.asarray(s.tensor("logits")),
            np.from_dlpack(s.tensor("b1")),
        ]
        kept = [view.copy() for view in views]
        s.close()
        others = [session() for _ in range(20)]  # Memory that was given back would be used again.
        for other in others:
            other.step(batch(3))
        for view, copy in zip(views, kept):
            np.testing.assert_array_equal(view, copy)
            if view.flags.writeable:  # numpy before 2.1 takes no other from DLPack.
                view += 1

    def test_outputs_in_place(self):
        s = session()
        s.step(batch())
        logits = np.asarray(s.tensor("logits"))
        np.testing.assert_array_equal(logits, s.read("logits"))
        self.assertNotEqual(s.read("logits").ctypes.data, logits.ctypes.data)

    def test_any_order_of_destruction(self):
        """Objects that know each other go in whatever order the collector likes."""
        for order in itertools.permutations(range(5)):
            context = tenon.Context(threads=1, log=lambda line: None)
            graph = tenon.Graph(context)
            x = graph.parameter("x", np.ones(8, np.float32))
            loss = graph.add("reduce_sum", graph.add("square", x))
            s = tenon.Session(graph, loss)
            held = [context, graph, s, s.tensor("x"), s.parameters()["x"]]
            ring = [held]
            ring.append(ring)
            for i in order:
                held[i] = None
            del context, graph, x, loss, s, ring
            held = None
        gc.collect()


class Sharing(unittest.TestCase):
    """DLPack, both ways."""

    def libraries(self):
        yield np.from_dlpack, lambda array: array.ctypes.data
        if torch is not None:
            yield torch.from_dlpack, lambda array: array.data_ptr()

    def test_to_others(self):
        s = session(optimizer="sgd", lr=0.1)
        tensor = s.tensor("w1")
        self.assertEqual(tensor.__dlpack_device__(), (1, 0))
        for take, pointer in self.libraries():
            array = take(tensor)
            self.assertEqual(pointer(array), tensor.ptr)
            self.assertEqual(tuple(array.shape), tensor.shape)
            before = np.asarray(array).copy()
            s.step(batch())
            self.assertFalse(np.array_equal(np.asarray(array), before))
            again = take(tensor)
            if take is not np.from_dlpack or again.flags.writeable:
                again[0, 0] = 42
                self.assertEqual(s.parameters()["w1"][0, 0], 42)

    def test_others_outlive_the_session(self):
        for take, _ in self.libraries():
            s = session()
            array = take(s.tensor("w1"))
            s.close()
            del s
            gc.collect()
            others = [session() for _ in range(20)]
            np.testing.assert_array_equal(np.asarray(array), weights()["w1"])
            del others

    def test_capsules_of_both_versions(self):
        s = session()
        tensor = s.tensor("w1")
        for version, name in (
            (None, "dltensor"),
            ((0, 8), "dltensor"),
            ((1, 0), "dltensor_versioned"),
        ):
            capsule = tensor.__dlpack__(max_version=version)
            self.assertIn(f'"{name}"', repr(capsule))
            taken = tenon.from_dlpack(_Holder(capsule))
            self.assertIn(f'"used_{name}"', repr(capsule))
            self.assertEqual(taken.ptr, tensor.ptr)
            with self.assertRaises(tenon.ArgumentError):
                tenon.from_dlpack(_Holder(capsule))
        for arguments in ({"stream": 1}, {"dl_device": (2, 0)}, {"copy": True}):
            with self.assertRaises(BufferError):
                tensor.__dlpack__(**arguments)

    def test_capsules_that_nobody_takes(self):
        s = session()
        gone = weakref.ref(s)
        for version in (None, (1, 0)):
            for _ in range(1000):
                s.tensor("w1").__dlpack__(max_version=version)
        del s
        self.assertIsNone(gone())

    def test_from_numpy(self):
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        tensor = tenon.from_dlpack(array)
        self.assertEqual(
            (tensor.ptr, tensor.shape, tensor.dtype), (array.ctypes.data, (3, 4), "f32")
        )
        self.assertEqual(tensor.nbytes, 48)
        view = np.asarray(tensor)
        self.assertEqual(view.ctypes.data, array.ctypes.data)
        del array
        view += 1
        del view
        self.assertEqual(np.from_dlpack(tensor)[0, 0], 1)
        self.assertEqual(tenon.from_dlpack(tensor), tensor)

    def test_it_is_given_back(self):
        array = np.ones((3, 4), np.float32)
        gone = weakref.ref(array)
        tensor = tenon.from_dlpack(array)
        del array
        self.assertIsNotNone(gone())
        del tensor
        self.assertIsNone(gone())

    def test_others_memory_trains_in_place(self):
        given = weights()
        graph, loss = network(given, share=True)
        copied = session(optimizer="sgd", lr=0.1)
        s = tenon.Session(graph, loss, optimizer="sgd", lr=0.1)
        gone = weakref.ref(given["w1"])
        self.assertEqual(s.tensor("w1").ptr, given["w1"].ctypes.data)
        for step in range(3):
            self.assertEqual(s.step(batch(step)), copied.step(batch(step)))
        for name, array in copied.parameters().items():
            np.testing.assert_array_equal(given[name], array)
        given["b2"][0] = 5
        self.assertEqual(s.read("b2")[0], 5)
        del given, graph, loss
        gc.collect()
        self.assertIsNotNone(gone())
        s.close()
        del s
        gc.collect()
        self.assertIsNone(gone())

    def test_what_cannot_be_shared(self):
        graph = tenon.Graph()
        array = np.ones((4, 4), np.float32)
        gone = weakref.ref(array)
        for i, bad in enumerate(
            (array[:, ::2], array.T[1:], array.astype(np.float64), array.astype(">f4"))
        ):
            with self.assertRaises((tenon.Error, BufferError)):
                graph.parameter(f"p{i}", bad, share=True)
        with self.assertRaises(tenon.ArgumentError):
            graph.parameter("list", [1.0, 2.0], share=True)
        frozen = np.ones(4, np.float32)
        frozen.flags.writeable = False
        with self.assertRaises((tenon.Error, BufferError)):
            graph.parameter("frozen", frozen, share=True)
        graph.parameter("p", array, share=True)
        with self.assertRaises(tenon.GraphError):
            graph.parameter("p", array, share=True)
        del array, bad
        graph.close()
        gc.collect()
        self.assertIsNone(gone())

    @needs_torch
    def test_torch_trains_beside(self):
        """The same network in torch, over the same memory: gradients and an update agree."""
        p = {name: torch.tensor(value) for name, value in weights().items()}
        graph, loss = network(p, share=True)
        s = graph.backward(loss, optimizer="sgd", lr=0.1)
        for name, tensor in p.items():
            self.assertEqual(s.tensor(name).ptr, tensor.data_ptr())
            tensor.requires_grad_()
        given = {name: torch.tensor(value) for name, value in batch().items()}
        hidden = torch.relu(given["x"] @ p["w1"].T + p["b1"])
        expected = torch.nn.functional.cross_entropy(
            hidden @ p["w2"].T + p["b2"], given["y"].long()
        )
        expected.backward()
        want = {name: (t - 0.1 * t.grad).detach().clone() for name, t in p.items()}
        self.assertAlmostEqual(s.step(given).loss, expected.item(), places=5)
        for name, gradient in s.gradients().items():
            np.testing.assert_allclose(gradient, p[name].grad, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(p[name].detach(), want[name], rtol=1e-5, atol=1e-6)

    @needs_torch
    def test_bfloat16(self):
        value = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
        graph = tenon.Graph()
        x = graph.add("cast", graph.input("x", (2, 3), "bf16"), dtype="f32")
        p = graph.parameter("p", value, trainable=False)
        w = graph.parameter("w", shape=(2, 3))
        y = graph.add("add", graph.add("add", x, graph.add("cast", p, dtype="f32")), w)
        s = tenon.Session(graph, graph.add("reduce_sum", y))
        self.assertEqual(s.evaluate({"x": value}), 30)
        self.assertEqual(torch.from_dlpack(s.tensor("p")).tolist(), value.tolist())
        with self.assertRaises(TypeError):
            s.read("p")


class _Holder:
    """What has a capsule to give, and no more."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, max_version=None):
        return self.capsule


class Threads(unittest.TestCase):
    def test_two_sessions_in_two_threads(self):
        """Each as if alone; and other threads run while the library works."""
        wanted = []
        for seed in (1, 2):
            s = session()
            wanted.append([s.step(batch(seed * 100 + i)) for i in range(200)])
        got = {}

        def train(seed):
            s = session()
            got[seed] = [s.step(batch(seed * 100 + i)) for i in range(200)]

        threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([got[1], got[2]], wanted)

    def test_the_interpreter_is_free_meanwhile(self):
        from test_training import slow

        s, ticks, running = slow(), 0, True

        def run():
            nonlocal running
            s.step()
            running = False

        thread = threading.Thread(target=run)
        thread.start()
        while running:
            ticks += 1
        thread.join()
        self.assertGreater(ticks, 1000)

    def test_a_batch_stays_with_its_run(self):
        s, wrong = session(), []
        wanted = {seed: s.evaluate(batch(seed)) for seed in range(4)}

        def run(seed):
            given = batch(seed)
            wrong.extend(1 for _ in range(300) if s.evaluate(given) != wanted[seed])

        threads = [threading.Thread(target=run, args=(seed,)) for seed in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_one_session_in_many_threads(self):
        """They take turns: every step counts once."""
        graph, loss = network()
        shared = [tenon.Session(graph, loss, lr=1e-4) for _ in range(2)]

        def train(s):
            for i in range(50):
                s.step(batch(i))
                s.flat_parameters()

        threads = [threading.Thread(target=train, args=(shared[i % 2],)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([s.step(batch()).step for s in shared], [151, 151])


if __name__ == "__main__":
    unittest.main()
