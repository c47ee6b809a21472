"""What the Flower example must show, on real daemons: rounds end although one client is killed in the
middle of one and another sends garbage, models get better, and compressed updates cost little of that.

    python tests/flower.py MODEL.gguf
"""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "ffi/python/examples/flower/run.py"
MARK = b"TENON_FLOWER="


def rounds(*arguments):
    """What each round of a run came to."""
    print("---", *arguments, flush=True)
    command = [sys.executable, str(RUN), *arguments, "--json", "--limit", "300"]
    told = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            told.append(json.loads(line))
    assert process.returncode == 0, f"it exited with {process.returncode}"
    assert not (left := ours()), f"processes are left: {left}"
    return told


def ours():
    """Processes of a run that are there still."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += (
                [path]
                if any(v.startswith(MARK) for v in path.read_bytes().split(b"\0"))
                else []
            )
        except OSError:
            pass
    return found


def check_faulty(told, share):
    """Of four clients, one was killed in the second round, and another's bytes were refused."""
    first, *later = told
    assert [len(line["clients"]) for line in later] == [4, 3, 3], (
        "clients that answered"
    )
    assert [line["silent"] for line in later] == [0, 1, 0], "clients that did not"
    for line in later:
        refused = [client for client in line["clients"] if "refused" in client]
        assert [client["partition"] for client in refused] == [3]
        kind, why = refused[0]["refused"].split(": ", 1)
        assert kind in ("FormatError", "ArgumentError") and "message" in why, why
        sizes = [c["bytes"] for c in line["clients"] if "refused" not in c]
        assert max(sizes) <= 4 * first["elements"] * share + 32, f"{sizes} bytes"
    assert later[-1]["accuracy"] > first["accuracy"] + 50, "it learnt"
    assert later[-1]["loss"] < later[0]["loss"], "and went on"
    return later[-1]["accuracy"]


def main(model):
    faults = ("digits", "--killed", "1", "--garbage", "1")
    plain = check_faulty(rounds(*faults), 1)
    compressed = check_faulty(rounds(*faults, "--compressed"), 1 / 30)
    assert abs(plain - compressed) <= 1, f"{plain} % plain, {compressed} % compressed"
    speeches = (
        "speeches",
        "--model",
        model,
        "--rounds",
        "1",
        "--steps",
        "4",
        "--clients",
        "2",
    )
    for how in ("--compressed", "--diloco"):
        before, after = rounds(*speeches, how)
        assert after["loss"] < before["loss"], "it learnt"
        assert not any("refused" in client for client in after["clients"])
    print(f"{plain:.1f} % plain, {compressed:.1f} % compressed")


if __name__ == "__main__":
    main(*sys.argv[1:])
