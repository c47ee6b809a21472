"""Federated rounds with Tenon on real Flower daemons, all on this machine.

Starts a SuperLink and a SuperNode for each client, each with data of its own, runs the app beside
this file, and ends every process that came of it. Prints what each round came to. Exits with 1 if the
model did not get better.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data

APP = Path(__file__).resolve().parent

#: In the environment of every process of a run: which folder it belongs to.
MARK = "TENON_FLOWER"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("task", choices=("digits", "speeches"))
    parser.add_argument("--compressed", action="store_true", help="send a tenth, in 4 bits each")
    parser.add_argument("--diloco", action="store_true", help="outer Nesterov on the server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--steps", type=int, help="of a client in a round; 300, of speeches 10")
    parser.add_argument("--killed", type=int, default=0, help="clients killed in round 2")
    parser.add_argument("--garbage", type=int, default=0, help="clients that send garbage")
    parser.add_argument("--mnist", metavar="FOLDER", help="MNIST's four files, for digits")
    parser.add_argument("--model", metavar="GGUF", help="SmolLM2, for speeches")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for all of it")
    parser.add_argument("--json", action="store_true", help="print a line of JSON a round")
    parser.add_argument("--logs", metavar="FOLDER", help="keep what the daemons wrote")
    given = parser.parse_args()
    if given.task == "speeches" and not given.model:
        parser.error("speeches need --model")
    if given.killed + given.garbage >= given.clients:
        parser.error("a client at least must be sound")
    given.steps = given.steps or {"digits": 300, "speeches": 10}[given.task]
    return given


def main():
    given = arguments()
    # Whoever ends this ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(given, f"data for {given.clients} clients")
        data.prepare(given.task, folder, given.clients, mnist=given.mnist, model=given.model)
        daemons = Daemons(folder, Path(given.logs) if given.logs else folder)
        try:
            rounds = run(given, folder, daemons)
        except Exception:
            daemons.show()
            raise
        finally:
            daemons.end()
    first, last = rounds[0], rounds[-1]
    is_better = last["loss"] < first["loss"] and (last["accuracy"] or 1) > (first["accuracy"] or 0)
    return 0 if is_better and len(rounds) == given.rounds + 1 else 1


def run(given, folder, daemons):
    """Starts everything, shows what happens until the app has ended, and gives its rounds."""
    say(given, "starting the SuperLink and the SuperNodes")
    address = f"127.0.0.1:{free_port()}"
    # The folder's own: no other run's daemons know of it.
    connection = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\n'
    (folder / "config.toml").write_text(connection + "insecure = true\n")
    host, port = address.split(":")
    link = [
        "--insecure",
        "--host",
        host,
        "--port",
        port,
        "--disable-runtime-dependency-installation",
    ]
    daemons.start("superlink", "flower-superlink", *link)
    wait_for(address)
    faults = ["killed"] * given.killed + ["garbage"] * given.garbage
    for number in range(given.clients):
        config = {
            "partition-id": number,
            "data": str(folder / f"client-{number}.npz"),
            "progress": str(folder / f"progress-{number}"),
        }
        if number >= given.clients - len(faults):
            config["fault"] = faults[number - given.clients]
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        node = ["--insecure", "--superlink", address, "--port", str(free_port())]
        daemons.start(f"node-{number}", "flower-supernode", *node, "--node-config", words)

    config = {
        "task": given.task,
        "model": str(Path(given.model).resolve()) if given.model else "",
        "held-out": str(folder / "held-out.npz"),
        "report": str(folder / "report"),
        "clients": given.clients,
        "rounds": given.rounds,
        "steps": given.steps,
        "keep": 0.1 if given.compressed else 1.0,
        "bits": 4 if given.compressed else 32,
        "outer-lr": 0.7 if given.diloco else 0.0,
    }
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items())
    (folder / "run.toml").write_text(lines)
    app = daemons.start(
        "app", "flwr", "run", str(APP), "here", "--stream", "-c", str(folder / "run.toml")
    )

    rounds, until = [], time.monotonic() + given.limit
    while app.poll() is None or len(lines_of(folder / "report")) > len(rounds):
        for line in lines_of(folder / "report")[len(rounds) :]:
            rounds.append(json.loads(line))
            show(given, rounds)
        for number in range(given.clients):
            # It has come to the middle of its round, and waits there.
            if (folder / f"progress-{number}.ready").exists():
                daemons.kill(f"node-{number}")
                (folder / f"progress-{number}.ready").unlink()
        progress(given, folder)
        if time.monotonic() > until or daemons.died("superlink"):
            raise RuntimeError(
                "the rounds did not end" + " in time" * (not daemons.died("superlink"))
            )
        time.sleep(0.1)
    if len(rounds) != given.rounds + 1:
        raise RuntimeError(f"the app ended after {len(rounds) - 1} of {given.rounds} rounds")
    return rounds


class Daemons:
    """Processes, and all that come of them. These may be in sessions of their own, and live on where
    those who started them die: a mark in the environment finds them all."""

    def __init__(self, folder, logs):
        self.folder, self.logs, self.started = folder, logs, {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name, program, *arguments):
        bin = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{bin}{os.pathsep}{os.environ.get('PATH', '')}",
            MARK: str(self.folder / name),
            "FLWR_HOME": str(self.folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }
        with open(self.log(name), "wb") as log:
            how = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            command = [str(bin / program), *arguments]
            # Ctrl-C is for this process, which ends the others in order.
            process = subprocess.Popen(command, env=environment, start_new_session=True, **how)
        self.started[name] = process
        return process

    def log(self, name):
        return self.logs / f"{name}.log"

    def died(self, name):
        return self.started[name].poll() is not None

    def kill(self, name, signal_number=signal.SIGKILL):
        """Ends a process and what came of it, at once."""
        mark = f"{MARK}={self.folder / name}".encode()
        while found := [pid for pid in processes() if mark in environment_of(pid)]:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal_number)
            for process in self.started.values():
                process.poll()  # So that none stays as a zombie.
            time.sleep(0.02)

    def end(self):
        """Ends all, the clients first. They have nothing that needs to be put away."""
        for name in reversed(self.started):
            self.kill(name)
            if self.started[name].poll() is None:
                self.started[name].kill()
            self.started[name].wait()

    def show(self):
        """The end of what each has written."""
        for name in self.started:
            text = self.log(name).read_text(errors="replace").splitlines()[-15:]
            print(f"--- {name}", *text, sep="\n", file=sys.stderr)


def processes():
    """The processes there are, but for this one. Elsewhere than on Linux, none are found."""
    folder = Path("/proc")
    numbers = [int(path.name) for path in folder.glob("[0-9]*")] if folder.exists() else []
    return [number for number in numbers if number != os.getpid()]


def environment_of(pid):
    """What a process was started with; nothing where it is gone, a zombie, or another user's."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(address):
    """Waits until something listens there."""
    host, port = address.split(":")
    until = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise RuntimeError("the SuperLink does not listen") from None
            time.sleep(0.2)


def lines_of(path):
    """The whole lines of a file that is being written."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


# --- what is shown --------------------------------------------------------------------------------


def say(given, text):
    """A line that is written over by the next, where someone looks."""
    if not given.json and sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


def progress(given, folder):
    """How far each client is in its round."""
    told = []
    for number in range(given.clients):
        with contextlib.suppress(OSError, ValueError):
            turn, step, steps = map(int, (folder / f"progress-{number}").read_text().split())
            told.append(f"client {number}: round {turn}, step {step} of {steps}")
    if told:
        say(given, "   ".join(told))


def show(given, rounds):
    """A row of the table."""
    last = rounds[-1]
    if given.json:
        print(json.dumps(last), flush=True)
        return
    say(given, "")
    if len(rounds) == 1:
        print("round    loss  right %  updates  largest, bytes  of plain  seconds")
    accuracy = "      -" if last["accuracy"] is None else f"{last['accuracy']:7.1f}"
    row = f"{last['round']:5}  {last['loss']:6.4f}  {accuracy}"
    if last["round"]:
        taken = [client for client in last["clients"] if "refused" not in client]
        size = max((client["bytes"] for client in taken), default=0)
        plain = 4 * rounds[0]["elements"]
        share = f"1/{plain / size:.1f}" if size else "-"
        row += f"  {len(taken):2} of {given.clients}  {size:14}  {share:>8}  {last['seconds']:7.1f}"
    print(row, flush=True)
    for client in last.get("clients", ()):
        if "refused" in client:
            print(f"       refused of client {client.get('partition', '?')}: {client['refused']}")
    if last.get("silent"):
        print(f"       silent: {last['silent']}")


if __name__ == "__main__":
    sys.exit(main())
