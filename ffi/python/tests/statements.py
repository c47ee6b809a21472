"""What federated methods compute, in plain numpy: written from their descriptions, an element like the
next, in no hurry."""

import numpy as np

BLOCK = 256


def philox(seed, stream, words):
    """Words of Philox 4x32-10 (Salmon et al. 2011): a block of four from the counter
    [index, index >> 32, stream, stream >> 32] and the key [seed, seed >> 32]."""
    low = np.uint64(0xFFFFFFFF)
    index = np.arange((words + 3) // 4, dtype=np.uint64)
    c = [index & low, index >> np.uint64(32)]
    c += [np.full_like(index, stream & 0xFFFFFFFF), np.full_like(index, stream >> 32)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        left, right = np.uint64(key[0]) ^ c[1], np.uint64(key[1]) ^ c[3]
        c = [b >> np.uint64(32) ^ left, b & low, a >> np.uint64(32) ^ right, a & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=1).astype(np.uint32).ravel()[:words]


def rounded(x, bits, seed, round):
    """x as codes of `bits` with a scale for each 256 can say it (QSGD: Alistarh et al. 2017). Element
    i of block b is rounded up or down by 23 bits of word 64 b + i % 64, from its byte 3 - i / 64 on."""
    blocks = -(-len(x) // BLOCK)
    padded = np.zeros((blocks, BLOCK), np.float32)
    padded.ravel()[: len(x)] = x
    words = philox(seed, round, 64 * blocks).reshape(blocks, 64).astype(np.uint64)
    # The last byte goes on with the first; the others end in zeros.
    last = words << np.uint64(24) | words >> np.uint64(8)
    turned = [words, words << np.uint64(8), words << np.uint64(16), last]
    bits_of = np.concatenate(turned, axis=1).astype(np.uint32) >> np.uint32(9)
    up = (np.uint32(0x3F800000) | bits_of).view(np.float32) - np.float32(1)
    most = np.float32(2 ** (bits - 1) - 1)
    largest = np.abs(padded).max(axis=1, keepdims=True)
    is_zero = largest < np.float32(1e-30)
    scale = np.where(is_zero, 0, largest / most).astype(np.float32)
    inverse = np.where(is_zero, 0, most / np.where(is_zero, 1, largest)).astype(np.float32)
    # From half a step below to half a step above, then to the nearest.
    up = up + (most + np.float32(0.5))
    top = np.float32(2**bits - 1)
    code = np.rint(np.minimum(padded * inverse + up, top))
    return ((code - (most + 1)) * scale).ravel()[: len(x)]


def largest(x, keep):
    """Places of the elements of largest magnitude, ascending; of equal ones the first."""
    return np.sort(np.argsort(-np.abs(x), kind="stable")[:keep])


def compressed(update, residual, keep, bits, seed, round):
    """What a server adds of an update, and what the client keeps for its next: the largest elements
    (Aji and Heafield 2017), rounded, with error feedback (Karimireddy et al. 2019)."""
    whole = update + residual
    places = largest(whole, keep or len(whole))
    sent, left = np.zeros_like(whole), whole.copy()
    sent[places] = whole[places] if bits == 32 else rounded(whole[places], bits, seed, round)
    left[places] = whole[places] - sent[places]
    return sent, left


def to_fixed(x, weight, clip, clients):
    """weight * x, cut to the clip, in units of the largest power of two that `clients` of them can be
    summed in, as words modulo 2^32."""
    scale = unit(clip, clients)
    limit = np.floor(np.float32(clip) * scale)
    cut = np.clip(np.nan_to_num(x, nan=0.0) * (np.float32(weight) * scale), -limit, limit)
    return np.rint(cut).astype(np.int64).astype(np.uint32)


def from_fixed(words, factor, clip, clients):
    """Back to numbers."""
    return words.view(np.int32) * (factor / unit(clip, clients))


def unit(clip, clients):
    """Units in 1."""
    return np.float32(2.0 ** np.floor(np.log2((2**31 - 1) / (clients * clip))))


def window(shape, axes):
    """Which elements of a parameter a sub-model has: for each axis (length, start), around its end."""
    taken = [np.arange(size) for size in shape]
    for axis, (length, start) in axes.items():
        taken[axis] = (start + np.arange(length)) % shape[axis]
    return np.ix_(*taken)


def q8_0(x):
    """x as int8 codes with a scale in f16 for each 32 along the last axis, as its bytes."""
    blocks = x.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    codes = np.trunc(blocks * inverse + np.copysign(np.float32(0.5), blocks)).astype(np.int8)
    both = [scale.astype(np.float16).view(np.uint8), codes.view(np.uint8)]
    return np.concatenate(both, axis=1).tobytes()


def from_q8_0(data, shape):
    """What such bytes stand for."""
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 34)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return (scale * blocks[:, 2:].copy().view(np.int8)).reshape(shape)
