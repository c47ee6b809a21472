"""The server: sends parameters, waits for updates, and adds the mean of those that hold."""

import json
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

import tenon
from tenon import federated
from tenon_flower import task

app = ServerApp()

#: Examples that a client may say it has.
MOST_EXAMPLES = 1_000_000


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    config, held_out = context.run_config, task.read(context.run_config["held-out"])
    outer = {"outer_lr": config["outer-lr"], "outer_momentum": config["outer-momentum"]}
    has_outer = config["outer-lr"] > 0
    session, size = task.session(config, held_out, **outer if has_outer else {})
    start = session.flat_parameters()
    tell(config, 0, *task.judge(session, held_out, size), elements=start.size)
    while len(nodes := set(grid.get_node_ids())) < config["clients"]:
        time.sleep(0.5)

    for number in range(1, int(config["rounds"]) + 1):
        began = time.monotonic()
        # Those that were silent in the last round are left alone: this one would wait for them, too.
        nodes &= set(grid.get_node_ids())
        replies = exchange(grid, nodes, number, start, config["patience"])
        total, weight, clients = np.zeros_like(start), 0, []
        for reply in replies:
            examples, told = take(reply, total, config["largest"])
            weight += examples
            clients.append(told)
        silent = nodes - {reply.metadata.src_node_id for reply in replies}
        nodes -= silent
        if weight:
            federated.accumulate(start, total, 1 / weight)
        session.set_flat_parameters(start)
        if has_outer:  # From the mean of all replicas, by what the round moved it.
            session.outer_step()
            start = session.flat_parameters()
        loss, accuracy = task.judge(session, held_out, size)
        seconds = time.monotonic() - began
        tell(config, number, loss, accuracy, clients=clients, silent=len(silent), seconds=seconds)


def exchange(grid, nodes, number, start, patience):
    """Sends the round out, and gives the replies: all, or those that came in twice the time that the
    first half of them took."""
    content = {
        "model": ArrayRecord({"parameters": Array(start)}),
        "round": ConfigRecord({"number": number}),
    }
    record = RecordDict(content)
    out = [Message(record, dst_node_id=n, message_type=MessageType.TRAIN) for n in sorted(nodes)]
    waiting, replies, began = set(grid.push_messages(out)), [], time.monotonic()
    while waiting and (now := time.monotonic() - began) < patience:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            replies.append(reply)
            if len(replies) == (len(out) + 1) // 2:
                patience = min(patience, 2 * now + 5)
        time.sleep(0.2)
    return replies


def take(reply, total, largest):
    """Adds a client's update to the total, by its number of examples: gives that, and what there is
    to tell. What does not hold is refused, and adds nothing."""
    if reply.has_error():
        return 0, {"refused": reply.error.reason}
    told, update = {}, np.zeros_like(total)
    try:
        told.update(reply.content["metrics"])
        data = reply.content["update"]["bytes"]
        told["bytes"] = len(data)
        # Whatever the bytes are, this adds a vector of finite numbers or raises.
        federated.add(update, data)
        # Numbers that are an update's, and yet none that training gives.
        norm = float(np.linalg.norm(update))
        if not norm <= largest:
            raise ValueError(f"its norm of {norm:.3g} is above {largest:.3g}")
        if not 0 < told["examples"] <= MOST_EXAMPLES:
            raise ValueError(f"{told['examples']} examples cannot be")
    except (tenon.Error, ValueError, KeyError, TypeError) as why:
        return 0, {**told, "refused": f"{type(why).__name__}: {why}"}
    federated.accumulate(total, update, told["examples"])
    return told["examples"], told


def tell(config, number, loss, accuracy, **more):
    """A line about a round."""
    with open(config["report"], "a") as file:
        file.write(json.dumps({"round": number, "loss": loss, "accuracy": accuracy, **more}) + "\n")
