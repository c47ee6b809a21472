"""A client: trains on data that stays with it, and sends what its model has learnt."""

import os
import tempfile
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tenon import federated
from tenon_flower import faults, task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A round: the server's parameters in, some steps, the difference out."""
    config, node, state = context.run_config, context.node_config, context.state
    number = int(message.content["round"]["number"])
    start = message.content["model"]["parameters"].numpy()
    data = task.read(node["data"])
    session, size = task.session(config, data)

    keeps_state = config["outer-lr"] > 0  # DiLoCo's inner optimizer goes on where it was.
    if keeps_state and "session" in state:
        load(session, state["session"]["saved"])
    session.set_flat_parameters(start)
    steps, seed = int(config["steps"]), [int(node["partition-id"]), number]
    for step, batch in enumerate(task.batches(data, size, steps, seed)):
        tell(node, number, step, steps)
        faults.wait_to_be_killed(node, number, step, steps)
        report = session.step(batch)
    tell(node, number, steps, steps)
    update = session.difference(start)
    if keeps_state:
        state["session"] = ConfigRecord({"saved": save(session)})

    # What is not sent now goes with the next round's update.
    residual = np.zeros_like(update)
    if "residual" in state:
        residual = state["residual"]["rest"].numpy().copy()
    how = {"keep": int(np.ceil(config["keep"] * len(update))), "bits": int(config["bits"])}
    sent = federated.compress(update, residual, **how, seed=seed[0], round=number)
    state["residual"] = ArrayRecord({"rest": Array(residual)})
    if node.get("fault") == "garbage":
        sent = faults.garbage(sent, number)
    metrics = {"partition": seed[0], "examples": task.count(data), "loss": report.loss}
    content = {"update": ConfigRecord({"bytes": sent}), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)


def save(session):
    """A session as bytes: Flower keeps them between rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "session")
        session.save(path)
        with open(path, "rb") as file:
            return file.read()


def load(session, saved):
    """A session as it was saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "session")
        with open(path, "wb") as file:
            file.write(saved)
        session.load(path)


_told = 0.0


def tell(node, number, step, steps):
    """Writes how far a round is, a few times a second, for those who look at it from outside."""
    global _told
    now = time.monotonic()
    if "progress" in node and (now - _told > 0.2 or step in (0, steps)):
        _told = now
        with open(str(node["progress"]), "w") as file:
            file.write(f"{number} {step} {steps}")
