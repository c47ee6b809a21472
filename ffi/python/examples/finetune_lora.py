"""Fine-tunes a language model on this device: trains LoRA adapters on the 4-bit weights of a GGUF
file, which stay mapped as they are.

    pip install ./ffi/python
    python ffi/python/examples/finetune_lora.py MODEL.gguf [STEPS]

There is no tokenizer in the library: the text below is token ids of SmolLM2. Exits with 1 if the
loss did not fall, or if the saved adapters do not give it again.
"""

import sys

import numpy as np

import tenon

# "The sun rises in the east and sets in the west. Every morning, people wake up, ..."
TEXT = [504, 2388, 13685, 281, 260, 6251, 284, 5208, 281, 260, 5846, 30, 5081, 5738, 28, 701,
        11368, 614, 28, 457, 13848, 28, 284, 685, 288, 746, 355, 1125, 30, 4643, 36411, 418, 582]  # fmt: skip
SEQ = len(TEXT) - 1


def progress(done, total):
    """Shows a step as eight dots. A true answer would stop the step, as an app may on low battery."""
    if done * 8 // total != (done - 1) * 8 // total:
        print(".", end="", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    # The token that follows each is its target.
    batch = {"tokens": np.array([TEXT[:-1]], np.int32), "targets": np.array(TEXT[1:], np.int32)}

    model = tenon.Model.load(sys.argv[1], seq=SEQ, lora=8, lora_targets="q_proj,v_proj")
    how = {"lr": 2e-3, "clip_norm": 1.0}
    # What it will take is known before any of it is taken.
    peak = model.plan(**how).planned_peak_bytes
    print(f"planned peak {peak / 1e6:.1f} MB beside the mapped weights")

    session = tenon.Session(model, **how)
    before = session.evaluate(batch)
    for _ in range(steps):
        report = session.step(batch, progress=progress)
        print(f" step {report.step}  loss {report.loss:.4f}  gradient {report.grad_norm:.2f}")
    after = session.evaluate(batch)

    # The adapters as numpy sees them, in the session's own memory.
    adapters = session.parameters()
    name, first = next(iter(adapters.items()))
    size = sum(array.nbytes for array in adapters.values())
    print(
        f"{len(adapters)} tensors of adapters, {size / 1e6:.1f} MB; first is {name} {first.shape}"
    )
    session.save("adapters.safetensors", note="the first text")
    session.close()

    # Another day: the same model and options, and the adapters from the file.
    session = tenon.Session(model, **how)
    note = session.load("adapters.safetensors")
    loaded = session.evaluate(batch)
    print(f'loss before {before:.4f}, after {after:.4f}, loaded ("{note}") {loaded:.4f}')
    return 0 if after < before and loaded == after else 1


if __name__ == "__main__":
    sys.exit(main())
