"""Writes tests/golden/quant/ with PyPI gguf 0.19.0: `pip install gguf==0.19.0`, run from anywhere.

input.f32          1024 floats: normal, uniform, one-sided, with outliers, tiny, constant, zero
<format>.encoded   their blocks, where gguf can encode the format
<format>.blocks    blocks of 1024 elements with random codes and scales
<format>.f32       what gguf decodes them to
"""

from pathlib import Path

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

ELEMS = 1024
OUT = Path(__file__).parent / "quant"
# Byte offsets of the half-precision scales in a block.
SCALES = {
    Type.F32: [],
    Type.F16: [],
    Type.BF16: [],
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q4_K: [0, 2],
    Type.Q6_K: [208],
}


def make_input(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((8, 128))
    x[1] = rng.uniform(-3, 3, 128)
    x[2] = rng.uniform(0.5, 0.6, 128)
    x[3] = -np.abs(x[3])
    x[4, ::40] *= 100
    x[5] *= 1e-6
    x[6, :32] = 0
    x[6, 32:64] = -0.75
    x[6, 64:96] = np.where(np.arange(32) % 2, 2.0, -2.0)
    x[6, 96:] = (np.arange(32) - 16) / 8
    x[7] *= 3000
    return x.astype(np.float32).ravel()


def make_blocks(rng: np.random.Generator, kind: Type) -> np.ndarray:
    elems, size = GGML_QUANT_SIZES[kind]
    if elems == 1:
        return quants.quantize(rng.standard_normal(ELEMS).astype(np.float32), kind).view(np.uint8)
    blocks = rng.integers(0, 256, (ELEMS // elems, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = rng.standard_normal((len(blocks), 1)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8)
    return blocks.ravel()


def main() -> None:
    OUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(20)
    x = make_input(rng)
    x.tofile(OUT / "input.f32")
    for kind in SCALES:
        name = kind.name.lower()
        blocks = make_blocks(rng, kind)
        blocks.tofile(OUT / f"{name}.blocks")
        quants.dequantize(blocks, kind).astype(np.float32).tofile(OUT / f"{name}.f32")
        try:
            encoded = quants.quantize(x, kind)
        except NotImplementedError:
            continue
        encoded.view(np.uint8).tofile(OUT / f"{name}.encoded")


if __name__ == "__main__":
    main()
