"""Steps, evaluations, plans and checkpoints, beside plain numpy."""

import json
import math
import os
import signal
import tempfile
import threading
import time
import unittest

import numpy as np
import statements
from common import (
    BATCH,
    CLASSES,
    HIDDEN,
    INNER,
    batch,
    loss_and_gradients,
    network,
    session,
    weights,
)

import tenon


class Training(unittest.TestCase):
    def near(self, got, want, tolerance=2e-6):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)

    def test_gradients_are_numpys(self):
        graph, loss = network()
        s = graph.backward(loss, optimizer="sgd", lr=0.1)
        for step in range(5):
            before = {name: array.copy() for name, array in s.parameters().items()}
            want, gradients = loss_and_gradients(before, batch(step))
            report = s.step(batch(step))
            self.near(report.loss, want)
            self.assertEqual((report.step, round(report.lr, 6)), (step + 1, 0.1))
            for name, gradient in s.gradients().items():
                self.near(gradient, gradients[name])
                self.near(s.read("grad/" + name), gradients[name])
                self.near(s.parameters()[name], before[name] - 0.1 * gradients[name])

    def test_adamw_with_clipping_is_numpys(self):
        s = session(lr=0.02, weight_decay=0.1, clip_norm=0.5, beta2=0.99)
        p = {name: value.astype(np.float64) for name, value in weights().items()}
        m = {name: np.zeros_like(value) for name, value in p.items()}
        v = {name: np.zeros_like(value) for name, value in p.items()}
        for step in range(1, 21):
            want, gradients = loss_and_gradients(p, batch(step))
            norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
            report = s.step(batch(step))
            self.near(report.loss, want, 1e-5)
            self.near(report.grad_norm, norm, 1e-5)
            for name, gradient in gradients.items():
                gradient = gradient * min(1, 0.5 / norm)
                m[name] = 0.9 * m[name] + 0.1 * gradient
                v[name] = 0.99 * v[name] + 0.01 * gradient**2
                update = (m[name] / (1 - 0.9**step)) / (np.sqrt(v[name] / (1 - 0.99**step)) + 1e-8)
                p[name] = p[name] - 0.02 * (update + 0.1 * p[name])
        for name, array in s.parameters().items():
            self.near(array, p[name], 1e-4)

    def test_evaluation_and_outputs(self):
        s = session()
        want, _ = loss_and_gradients(weights(), batch())
        self.near(s.evaluate(batch()), want)
        self.assertEqual(s.read("logits").shape, (BATCH, CLASSES))
        np.testing.assert_array_equal(s.read("x"), batch()["x"])
        for name, array in s.parameters().items():
            np.testing.assert_array_equal(array, weights()[name])

    def test_accumulation_and_schedule(self):
        s = session(accumulation=2, schedule="linear", warmup_steps=2, total_steps=4, lr=0.1)
        rates = [round(s.step(batch(i)).lr, 4) for i in range(8)]
        self.assertEqual(rates, [0, 0.05, 0, 0.1, 0, 0.05, 0, 0.0])

    def test_plan_and_budget(self):
        graph, loss = network()
        plan = graph.plan(loss)
        s = tenon.Session(graph, loss)
        self.assertEqual(s.plan()[:5], plan[:5])
        self.assertEqual(plan.planned_peak_bytes, plan.arena_bytes + plan.owned_bytes)
        with self.assertRaises(tenon.OutOfMemoryError) as caught:
            graph.plan(loss, memory_budget=1000)
        self.assertIn("smallest", str(caught.exception))
        self.assertEqual(caught.exception.status, 7)
        s.step(batch())
        p = s.parameters()["w1"]
        where = p.ctypes.data
        with self.assertRaises(tenon.OutOfMemoryError):
            s.set_memory_budget(1000)
        s.set_memory_budget(plan.planned_peak_bytes)
        s.step(batch())
        self.assertEqual(s.parameters()["w1"].ctypes.data, where)

    def test_batches_are_brought_while_steps_run(self):
        plain, staged = session(), session(stage_inputs=True)
        here, threads = threading.get_ident(), set()

        def batches(count):
            for seed in range(count):
                threads.add(threading.get_ident())
                yield batch(seed)

        expected = [plain.step(batch(seed)) for seed in range(20)]
        self.assertEqual(list(staged.steps(batches(20))), expected)
        self.assertNotIn(here, threads)
        self.assertEqual(list(staged.steps([])), [])
        more = staged.plan().owned_bytes - plain.plan().owned_bytes
        self.assertEqual(more, sum(value.nbytes for value in batch().values()))

        def failing():
            yield batch()
            raise KeyError("no more")

        made = staged.steps(failing())
        self.assertEqual(next(made).step, 21)
        with self.assertRaises(KeyError):
            next(made)
        with self.assertRaises(tenon.ShapeError):
            staged.stage({"x": np.zeros((2, 2), np.float32)})
        with self.assertRaises(tenon.ArgumentError):
            staged.take_staged()
        with self.assertRaises(tenon.ArgumentError):
            plain.stage(batch())
        staged.close()
        with self.assertRaises(tenon.ArgumentError):
            staged.stage(batch())

    def test_checkpoints_continue_with_the_same_bits(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "saved")
            whole, first = session(), session()
            for step in range(3):
                whole.step(batch(step))
                first.step(batch(step))
            first.save(path, note="nach drei Schritten ✓")
            second = session()
            self.assertEqual(second.load(path), "nach drei Schritten ✓")
            for step in range(3, 6):
                self.assertEqual(second.step(batch(step)), whole.step(batch(step)))
            np.testing.assert_array_equal(second.flat_parameters(), whole.flat_parameters())
            with self.assertRaises(tenon.FormatError):
                session(state="bf16").load(path)
            with self.assertRaises(tenon.Error):
                second.load(os.path.join(folder, "none"))
            with self.assertRaises(OSError):
                second.save(os.path.join(folder, "no", "such", "folder"))

    def test_flat_parameters(self):
        s = session()
        flat = s.flat_parameters()
        np.testing.assert_array_equal(
            flat, np.concatenate([p.ravel() for p in s.parameters().values()])
        )
        s.set_flat_parameters(flat + 1)
        np.testing.assert_array_equal(s.parameters()["b2"], weights()["b2"] + 1)

    def test_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            session().step(batch(), trace=path)
            with open(path) as file:
                self.assertTrue(json.load(file))

    def test_operators(self):
        graph = tenon.Graph()
        x = graph.input("x", (2, 6))
        y = graph.add("reshape", x, shape=[3, 4])
        self.assertEqual(y.shape, (3, 4))
        total = graph.add("reduce_sum", y, axes=(1,), keepdims=True)
        self.assertEqual(total.shape, (3, 1))
        self.assertEqual(graph.add("cast", x, dtype="bf16").shape, (2, 6))
        self.assertEqual(graph.add("clamp", x, lo=-1, hi=np.float32(0.5)).shape, (2, 6))
        self.assertEqual(
            len(graph.add_all("max_pool2d", graph.input("i", (1, 4, 4, 2)), kernel=[2, 2])), 2
        )
        self.assertIn("reduce_sum", graph.dump())
        self.assertIn("digraph", graph.graphviz())

    def test_states_and_constants(self):
        graph = tenon.Graph()
        x = graph.input("x", (8, 3))
        one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
        scale, shift = (
            graph.parameter("scale", one),
            graph.parameter("shift", zero, trainable=False),
        )
        mean, variance = graph.state("mean", 3), graph.state("variance", 3)
        y = graph.add("batch_norm", x, mean, variance, scale, shift)
        y = graph.add("mul", y, graph.constant(np.full(3, 2, np.float32)))
        s = tenon.Session(graph, graph.add("reduce_mean", graph.add("square", y)))
        s.step({"x": np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32) + 5})
        self.assertTrue((s.read("mean") != 0).all())
        self.assertEqual([p.name for p in s.parameter_list() if p.trainable], ["scale"])
        self.assertEqual(sorted(s.parameters(trainable=False)), ["scale", "shift"])

    def test_contexts(self):
        lines = []
        context = tenon.Context(threads=2, isa="portable", calibrate=True, log=lines.append)
        self.assertIn("2 threads", lines[0])
        self.assertIn("portable", lines[0])
        graph = tenon.Graph(context)
        del context
        self.assertEqual(graph.input("x", 3).shape, (3,))
        with self.assertRaises(tenon.ArgumentError):
            tenon.Context(threads=4096)
        with self.assertRaises(tenon.Error):
            tenon.Context(isa="z80")


class Parts(unittest.TestCase):
    """A network cut in two, each part in a session of its own."""

    def parts(self, dtype, **options):
        given = weights()
        front = tenon.Graph()
        p = {name: front.parameter(name, given[name]) for name in ("w1", "b1")}
        hidden = front.add("linear", front.input("x", (BATCH, INNER)), p["w1"], p["b1"])
        front.send("hidden", front.add("relu", hidden), dtype)
        back = tenon.Graph()
        p = {name: back.parameter(name, given[name]) for name in ("w2", "b2")}
        hidden = back.receive("hidden", (BATCH, HIDDEN), dtype)
        logits = back.add("linear", hidden, p["w2"], p["b2"])
        loss = back.add("cross_entropy", logits, back.input("y", BATCH, "i32"), reduction="mean")
        return tenon.Session(front, **options), tenon.Session(back, loss, **options)

    def step(self, front, back, given):
        front.forward({"x": given["x"]})
        report = back.step({"hidden": front.read_bytes("hidden"), "y": given["y"]})
        front.step({"grad/hidden": back.read_bytes("grad/hidden")})
        return report

    def test_they_train_as_the_whole(self):
        for dtype, tolerance in (("f32", 1e-6), ("bf16", 1e-2), ("q8_0", 1e-2)):
            whole = session(optimizer="sgd", lr=0.1)
            front, back = self.parts(dtype, optimizer="sgd", lr=0.1)
            for i in range(5):
                one, two = whole.step(batch(i)), self.step(front, back, batch(i))
                self.assertAlmostEqual(one.loss, two.loss, delta=tolerance)
            both = {**front.parameters(), **back.parameters()}
            for name, array in whole.parameters().items():
                np.testing.assert_allclose(array, both[name], atol=tolerance)

    def test_steps_over_int8_are_numpys(self):
        """What the cut lets through, by its bytes: each side goes on from what they stand for."""
        front, back = self.parts("q8_0", optimizer="sgd", lr=0.1)
        shape, p = (BATCH, HIDDEN), {**weights()}
        for i in range(3):
            given = batch(i)
            front.forward({"x": given["x"]})
            there = front.read_bytes("hidden")
            hidden = np.maximum(given["x"] @ p["w1"].T + p["b1"], 0)
            seen = statements.from_q8_0(there, shape)
            largest = np.abs(hidden).max(axis=1, keepdims=True)  # A block of 32 is a row here.
            self.assertTrue((np.abs(seen - hidden) <= largest / 220).all())
            exact = np.mean([a == b for a, b in zip(there, statements.q8_0(hidden))])
            self.assertGreater(exact, 0.99)  # Sums in another order may round another way.
            logits = seen @ p["w2"].T + p["b2"]
            d_logits = np.exp(logits - logits.max(axis=1, keepdims=True))
            d_logits /= d_logits.sum(axis=1, keepdims=True)
            want = -np.log(d_logits[np.arange(BATCH), given["y"]]).mean()
            d_logits[np.arange(BATCH), given["y"]] -= 1
            d_logits /= BATCH
            report = back.step({"hidden": there, "y": given["y"]})
            self.assertAlmostEqual(report.loss, want, delta=1e-5)
            again = back.read_bytes("grad/hidden")
            d_seen = statements.from_q8_0(again, shape)
            largest = np.abs(d_logits @ p["w2"]).max(axis=1, keepdims=True)
            self.assertTrue((np.abs(d_seen - d_logits @ p["w2"]) <= largest / 220).all())
            front.step({"grad/hidden": again})
            d_hidden = d_seen * (hidden > 0)
            moves = {"w1": d_hidden.T @ given["x"], "b1": d_hidden.sum(axis=0)}
            moves |= {"w2": d_logits.T @ seen, "b2": d_logits.sum(axis=0)}
            for name, array in {**front.parameters(), **back.parameters()}.items():
                np.testing.assert_allclose(array, p[name] - 0.1 * moves[name], rtol=1e-5, atol=1e-6)
                p[name] = array.copy()

    def test_a_gradient_must_come_back(self):
        front, back = self.parts("f32")
        front.forward({"x": batch()["x"]})
        with self.assertRaises(tenon.ArgumentError):
            front.step()
        with self.assertRaises(tenon.ArgumentError):
            back.write("hidden", b"too short")
        with self.assertRaises(tenon.Error):
            session().forward(batch())


class Rounds(unittest.TestCase):
    """Federated training, beside plain numpy."""

    LR = 0.1

    def gradient(self, s, given):
        p = {name: array.copy() for name, array in s.parameters().items()}
        gradients = loss_and_gradients(p, given)[1]
        return np.concatenate([gradients[name].ravel() for name in p])

    def near(self, got, want):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

    def test_fedprox(self):
        s = session(optimizer="sgd", lr=self.LR, proximal=0.5)
        for start in (0, 2):
            s.begin_round()
            anchor = s.flat_parameters()
            np.testing.assert_array_equal(s.kept("anchor"), anchor)
            for i in range(start, start + 2):
                w, g = s.flat_parameters(), self.gradient(s, batch(i))
                s.step(batch(i))
                self.near(s.flat_parameters(), w - self.LR * (g + 0.5 * (w - anchor)))

    def test_scaffold(self):
        s = session(optimizer="sgd", lr=self.LR, control_variates=True)
        c = np.linspace(-0.1, 0.1, s.flat_parameters().size, dtype=np.float32)
        s.set_kept("server_control", c)
        anchor = s.flat_parameters()
        for i in range(3):
            w, g = s.flat_parameters(), self.gradient(s, batch(i))
            s.step(batch(i))
            self.near(s.flat_parameters(), w - self.LR * (g + c))
        moved = (anchor - s.flat_parameters()) / (3 * self.LR)
        s.renew_control()
        self.near(s.kept("control"), moved - c)

    def test_diloco(self):
        s = session(outer_lr=0.7, outer_momentum=0.9)
        v = 0
        for start in (0, 3):
            anchor = s.kept("anchor")
            for i in range(start, start + 3):
                s.step(batch(i))
            g = anchor - s.flat_parameters()
            v = 0.9 * v + g
            s.outer_step()
            self.near(s.flat_parameters(), anchor - 0.7 * (g + 0.9 * v))
            self.near(s.kept("outer_momentum"), v)

    def test_what_is_not_kept(self):
        s = session()
        for kept in ("anchor", "control", "outer_momentum"):
            with self.assertRaises(tenon.ArgumentError):
                s.kept(kept)
        for call in (s.outer_step, s.renew_control, lambda: s.kept("nothing")):
            with self.assertRaises(ValueError):
                call()
        self.assertEqual(s.step(batch()).step, 1)


class Private(unittest.TestCase):
    """DP-SGD, beside plain numpy."""

    CLIP, LR = 0.5, 0.1

    def step(self, **options):
        s = session(
            optimizer="sgd", lr=self.LR, sample_clip_norm=self.CLIP, samples=BATCH, **options
        )
        before = s.flat_parameters()
        s.step(batch())
        return (before - s.flat_parameters()) / self.LR

    def test_samples_are_clipped_one_by_one(self):
        given, total = batch(), 0
        for i in range(BATCH):
            alone = {name: array[i : i + 1] for name, array in given.items()}
            gradients = loss_and_gradients(weights(), alone)[1]
            gradient = np.concatenate([gradients[name].ravel() for name in weights()])
            total = total + gradient * min(1, self.CLIP / np.linalg.norm(gradient))
        np.testing.assert_allclose(self.step(), total / BATCH, rtol=1e-4, atol=1e-5)

    def test_noise(self):
        plain = self.step()
        noisy = self.step(noise_multiplier=2.0, noise_seed=1)
        np.testing.assert_array_equal(noisy, self.step(noise_multiplier=2.0, noise_seed=1))
        self.assertFalse(np.array_equal(noisy, self.step(noise_multiplier=2.0, noise_seed=2)))
        deviation = 2.0 * self.CLIP / BATCH
        self.assertAlmostEqual((noisy - plain).std() / deviation, 1, delta=0.15)


class Stopping(unittest.TestCase):
    """A step that is stopped leaves the session as good as new."""

    def setUp(self):
        # A shell lets what it starts in the background ignore Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def test_progress_is_told_and_cancels(self):
        s, told = session(), []
        s.step(batch(), progress=lambda done, total: told.append((done, total)))
        self.assertEqual([done for done, _ in told], list(range(told[0][1])))
        for at in range(len(told)):
            with self.assertRaises(tenon.Cancelled) as caught:
                s.step(batch(), progress=lambda done, total: done == at)
            self.assertEqual(caught.exception.status, 9)
        self.assertEqual(s.step(batch()).step, 2)

    def test_what_progress_raises_goes_on(self):
        s = session()

        def fail(done, total):
            raise LookupError(f"at {done} of {total}")

        with self.assertRaisesRegex(LookupError, "at 0 of"):
            s.step(batch(), progress=fail)
        with self.assertRaisesRegex(LookupError, "at 0 of"):
            s.evaluate(batch(), progress=fail)
        self.assertEqual(s.step(batch()).step, 1)

    def test_progress_must_not_use_the_session(self):
        s = session()
        for call in (s.step, s.plan, s.close, s.parameters, lambda: s.write("x", batch()["x"])):
            with self.assertRaisesRegex(tenon.ArgumentError, "calls back"):
                s.step(batch(), progress=lambda done, total: call())
        self.assertEqual(s.step(batch()).step, 1)

    def test_progress_every_so_often(self):
        s, told, start = slow(), [], time.monotonic()
        s.step(progress=lambda done, total: told.append(done), progress_ms=30)
        self.assertGreater(len(told), 1)
        self.assertLessEqual(len(told) * 0.03, time.monotonic() - start)

    def test_interrupt(self):
        s = slow()
        before = s.flat_parameters()
        s.step()
        moved = s.flat_parameters()
        self.assertTrue((before != moved).any())
        for _ in range(3):
            # Early in a step of about half a second.
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                s.step()
            timer.join()
        # No update was made.
        np.testing.assert_array_equal(s.flat_parameters(), moved)
        self.assertEqual(s.step().step, 2)

    def test_interrupt_of_short_steps(self):
        s, done = session(lr=1e-5), 0
        for round in range(20):
            timer = threading.Timer(0.01 + 0.001 * round, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                while True:
                    s.step(batch())
            timer.join()
            number = s.step(batch()).step
            self.assertGreater(number, done)
            done = number


def slow():
    """A session whose step takes long: a chain of products."""
    graph = tenon.Graph(tenon.Context(threads=1))
    w = graph.parameter("w", np.eye(512, dtype=np.float32) * np.float32(0.9))
    x = graph.input("x", (1024, 512))
    y = x
    for _ in range(60):
        y = graph.add("matmul", y, w)
    s = tenon.Session(graph, graph.add("reduce_mean", graph.add("square", y)), optimizer="sgd")
    s.write("x", np.ones((1024, 512), np.float32))
    return s


if __name__ == "__main__":
    unittest.main()
