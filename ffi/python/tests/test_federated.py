"""Exchange between clients and server, beside plain numpy."""

import unittest

import numpy as np
from common import batch, session

import tenon
from tenon import federated


def vector(count=5000, seed=0):
    """Numbers as an update has them."""
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


class Sums(unittest.TestCase):
    def test_sums(self):
        total, update, weights = vector(), vector(seed=1), np.float32([0, 1, 2, 4] * 1250)
        want = total + np.float32(0.25) * update
        federated.accumulate(total, update, 0.25)
        np.testing.assert_allclose(total, want, rtol=1e-6, atol=1e-7)
        federated.average(total, weights)
        with np.errstate(divide="ignore"):
            want = np.where(weights == 0, 0, want / weights)
        np.testing.assert_allclose(total, want, rtol=1e-6, atol=1e-7)

    def test_a_round(self):
        """Two clients' updates, averaged, are the next round's parameters."""
        server, clients = session(), [session(), session()]
        start = server.flat_parameters()
        total = np.zeros_like(start)
        for i, client in enumerate(clients):
            client.set_flat_parameters(start)
            for step in range(3):
                client.step(batch(10 * i + step))
            update = client.difference(start)
            np.testing.assert_array_equal(update, client.flat_parameters() - start)
            federated.add(total, federated.compress(update), 0.5)
        server.add_parameters(total)
        mean = (clients[0].flat_parameters() + clients[1].flat_parameters()) / 2
        np.testing.assert_allclose(server.flat_parameters(), mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(server.flat_parameters("all"), server.flat_parameters())
        self.assertEqual(server.flat_parameters("adapters").size, 0)

    def test_bad_vectors(self):
        good = vector(10)
        frozen = vector(10)
        frozen.flags.writeable = False
        for bad in (good.astype(np.float64), good.reshape(2, 5), [1.0] * 10, vector(11)):
            with self.assertRaises(tenon.ShapeError):
                federated.accumulate(good, bad)
        for bad in (frozen, vector(20)[::2]):
            with self.assertRaises(tenon.ArgumentError):
                federated.accumulate(bad, good)


class Compression(unittest.TestCase):
    def test_all_in_f32_is_exact(self):
        update = vector()
        data, total = federated.compress(update), np.zeros(5000, np.float32)
        self.assertEqual(federated.inspect(data), (5000, 5000, 32))
        federated.add(total, data)
        np.testing.assert_array_equal(total, update)

    def test_what_is_not_sent_stays(self):
        update, residual = vector(), np.zeros(5000, np.float32)
        for bits in (32, 8, 4, 2):
            residual[:] = 0
            data = federated.compress(update, residual, keep=500, bits=bits, seed=3)
            self.assertEqual(federated.inspect(data), (5000, 500, bits))
            self.assertLess(len(data), 500 * bits // 8 + 600)
            total = np.zeros(5000, np.float32)
            federated.add(total, data)
            self.assertEqual((total != 0).sum() if bits == 32 else 500, 500)
            np.testing.assert_allclose(total + residual, update, rtol=1e-5, atol=1e-6)
            again = federated.compress(update, keep=500, bits=bits, seed=3)
            self.assertEqual(again, data)

    def test_hostile_bytes(self):
        data, total = federated.compress(vector(), keep=50, bits=4), np.zeros(5000, np.float32)
        for bad in (b"", data[:-1], data[:9], b"\xff" * len(data), data + b"x"):
            with self.assertRaises(tenon.Error):
                federated.add(total, bad)
        self.assertFalse(total.any())
        with self.assertRaises(tenon.Error):
            federated.add(vector(4999), data)
        with self.assertRaises(tenon.ArgumentError):
            federated.compress(vector(), bits=3)
        with self.assertRaises(tenon.ArgumentError):
            federated.compress(np.full(9, np.nan, np.float32))


class Masks(unittest.TestCase):
    def test_masks_cancel(self):
        fixed = federated.FixedPoint(8.0, 2)
        one, two = vector(), vector(seed=1)
        words = [fixed.encode(one), fixed.encode(two)]
        plain = words[0].copy()
        federated.mask(words[0], [federated.Mask(42, 7)])
        federated.mask(words[1], [federated.Mask(42, 7, negative=True)])
        self.assertLess((plain == words[0]).mean(), 0.01)
        federated.secure_add(words[0], words[1])
        np.testing.assert_allclose(fixed.decode(words[0]), one + two, atol=1e-6)
        with self.assertRaises(tenon.ShapeError):
            fixed.decode(one)


class Submodels(unittest.TestCase):
    def test_windows(self):
        s = session()
        whole, shapes = s.flat_parameters(), s.parameters()
        # Half of the hidden units, from the 24th on and around.
        take = np.arange(24, 40) % 32
        axes = [federated.Axis(n, a, 16, 24) for n, a in (("w1", 0), ("b1", 0), ("w2", 1))]
        part = federated.Submodel(s.parameter_list(), axes)
        cut = {"w1": shapes["w1"][take], "b1": shapes["b1"][take], "w2": shapes["w2"][:, take]}
        want = np.concatenate([cut.get(name, shapes[name]).ravel() for name in shapes])
        np.testing.assert_array_equal(part.extract(whole), want)
        total, weights = np.zeros_like(whole), np.zeros_like(whole)
        part.add(total, weights, want, 0.5)
        federated.average(total, weights)
        self.assertEqual((weights != 0).sum(), part.count)
        np.testing.assert_array_equal(total[weights != 0], whole[weights != 0])
        with self.assertRaises(tenon.Error):
            federated.Submodel(s.parameter_list(), [federated.Axis("none", 0, 1)])


if __name__ == "__main__":
    unittest.main()
