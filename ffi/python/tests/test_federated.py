"""Exchange between clients and server, beside plain numpy."""

import unittest

import numpy as np
import statements
from common import batch, loss_and_gradients, session, weights

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

    def test_fedavg_is_numpys(self):
        """Two rounds of three clients with unlike shares of the examples; SGD in numpy beside them."""
        client, names, shares = session(optimizer="sgd", lr=0.1), list(weights()), [0.5, 0.3, 0.2]
        server = client.flat_parameters()
        want = {name: value.astype(np.float64) for name, value in weights().items()}
        for round in range(2):
            total, moved = np.zeros_like(server), {name: 0 for name in names}
            for i, share in enumerate(shares):
                client.set_flat_parameters(server)
                p = {name: value.copy() for name, value in want.items()}
                for step in range(3):
                    given = batch(100 * round + 10 * i + step)
                    client.step(given)
                    gradients = loss_and_gradients(p, given)[1]
                    p = {name: p[name] - 0.1 * gradients[name] for name in names}
                federated.accumulate(total, client.difference(server), share)
                moved = {name: moved[name] + share * (p[name] - want[name]) for name in names}
            federated.accumulate(server, total)
            want = {name: want[name] + moved[name] for name in names}
        flat = np.concatenate([want[name].ravel() for name in names])
        np.testing.assert_allclose(server, flat, rtol=1e-5, atol=1e-6)

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
    def test_the_generator(self):
        """The first words of Random123's own test vectors, and of another stream."""
        first = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        np.testing.assert_array_equal(statements.philox(0, 0, 4), np.array(first, np.uint32))
        words = np.zeros(1000, np.uint32)
        federated.mask(words, [federated.Mask(2**63 + 7, 2**40 + 3)])
        np.testing.assert_array_equal(words, statements.philox(2**63 + 7, 2**40 + 3, 1000))

    def test_rounds_are_numpys(self):
        """Top-k, codes of few bits, and both, with error feedback, element by element."""
        for count in (1, 700, 70_000):
            for keep in (0, count // 100, count // 3, count):
                for bits in (32, 8, 4, 2):
                    how = {"keep": keep, "bits": bits, "seed": 2**40 + bits}
                    residual, kept = np.zeros((2, count), np.float32)
                    for round in range(3):
                        update = vector(count, round) ** 3
                        sent, kept = statements.compressed(update, kept, **how, round=round)
                        data = federated.compress(update, residual, **how, round=round)
                        self.assertEqual(federated.inspect(data), (count, keep or count, bits))
                        np.testing.assert_array_equal(residual, kept)
                        total = np.zeros(count, np.float32)
                        federated.add(total, data)
                        np.testing.assert_array_equal(total, sent)
                        total = vector(count, 9)
                        want = total + np.float32(0.3) * sent
                        federated.add(total, data, 0.3)
                        np.testing.assert_allclose(total, want, rtol=1e-5, atol=1e-6)

    def test_rounding_is_right_in_the_mean(self):
        x = np.linspace(-1, 1, 512, dtype=np.float32)
        for bits, steps in ((8, 127), (4, 7), (2, 1)):
            total, times = np.zeros_like(x), 3000
            for round in range(times):
                federated.add(total, federated.compress(x, bits=bits, round=round), 1 / times)
            np.testing.assert_allclose(total, x, atol=3 / steps / times**0.5)

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

    def test_rounds_are_numpys(self):
        """Words of three clients under masks of each pair: fixed point, sums modulo 2^32, and back."""
        updates, seeds = [vector(seed=i) for i in range(3)], {(0, 1): 5, (0, 2): 6, (1, 2): 2**60}
        updates[0][:3] = np.nan, 1e9, -1e9
        shares, how = [0.5, 0.3, 0.2], {"clip": 3.0, "clients": 3}
        fixed, total = federated.FixedPoint(**how), np.zeros(5000, np.uint32)
        want = np.zeros(5000, np.uint32)
        for i, update in enumerate(updates):
            words = fixed.encode(update, shares[i])
            plain = statements.to_fixed(update, shares[i], **how)
            np.testing.assert_array_equal(words, plain)
            mine = [(pair, seed) for pair, seed in seeds.items() if i in pair]
            federated.mask(words, [federated.Mask(s, 4, pair[1] == i) for pair, s in mine])
            hidden = plain.copy()
            for pair, seed in mine:
                mask = statements.philox(seed, 4, 5000)
                hidden = hidden - mask if pair[1] == i else hidden + mask
            np.testing.assert_array_equal(words, hidden)
            federated.secure_add(total, words)
            want += plain
        np.testing.assert_array_equal(total, want)
        decoded = fixed.decode(total, 2.0)
        np.testing.assert_allclose(decoded, statements.from_fixed(want, 2.0, **how), rtol=1e-6)
        mean = sum(np.float32(share) * update for share, update in zip(shares, updates))
        np.testing.assert_allclose(decoded[3:], 2 * mean[3:], atol=1e-6)

    def test_a_lost_clients_masks_are_taken_back(self):
        fixed, one = federated.FixedPoint(8.0, 2), vector()
        words = fixed.encode(one)
        federated.mask(words, [federated.Mask(42, 7)])
        federated.mask(words, [federated.Mask(42, 7, negative=True)])
        np.testing.assert_array_equal(words, fixed.encode(one))


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

    def test_rounds_are_numpys(self):
        """HeteroFL's widths and FedRolex's window, which rolls: each element becomes the mean of those
        clients that have it, by their shares; what none has stays."""
        s = session()
        shapes = {p.name: p.shape for p in s.parameter_list()}
        server = s.flat_parameters()
        for round in range(5):
            clients = [(32, 0, 0.5), (16, 0, 0.3), (8, 7 * round, 0.2)]
            if round == 4:
                clients = clients[1:]  # None has the whole.
            total, by = np.zeros_like(server), np.zeros_like(server)
            sums = {name: np.zeros(shape) for name, shape in shapes.items()}
            shares = {name: np.zeros(shape) for name, shape in shapes.items()}
            for number, (length, start, share) in enumerate(clients):
                lines = [("w1", 0), ("b1", 0), ("w2", 1)]
                axes = [federated.Axis(name, axis, length, start) for name, axis in lines]
                part = federated.Submodel(s.parameter_list(), axes)
                update = vector(part.count, 10 * round + number)
                part.add(total, by, update, share)
                at = 0
                for name, shape in shapes.items():
                    cut = {axis: (length, start) for of, axis in lines if of == name}
                    where = statements.window(shape, cut)
                    size = sums[name][where].size
                    new = update[at : at + size].reshape(sums[name][where].shape)
                    sums[name][where] += share * new
                    shares[name][where] += share
                    at += size
                self.assertEqual(at, part.count)
            federated.average(total, by)
            flat = [np.concatenate([a[n].ravel() for n in shapes]) for a in (sums, shares)]
            np.testing.assert_allclose(by, flat[1], rtol=1e-6)
            mean = np.divide(flat[0], flat[1], out=np.zeros_like(flat[0]), where=flat[1] != 0)
            np.testing.assert_allclose(total, mean, rtol=1e-5, atol=1e-6)
            federated.accumulate(server, total)
        # Those who took the window of a round trained what numpy cuts out.
        part = federated.Submodel(s.parameter_list(), [federated.Axis("w1", 0, 8, 28)])
        w1 = s.parameters()["w1"][(28 + np.arange(8)) % 32]
        np.testing.assert_array_equal(part.extract(s.flat_parameters())[: w1.size], w1.ravel())


if __name__ == "__main__":
    unittest.main()
