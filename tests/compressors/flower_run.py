"""A federation of Flower in one process: a strategy, and clients that learn."""

import numpy as np

from fedjax_sl.compressors.flower import compression_mod


NODES = (3, 2**63 + 5, 2**40)
SHAPES = {"weight": (40, 30), "bias": (30,), "steps": ()}


def through_bytes(message):
    """A message as the other end reads it from the network."""
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message

    return message_from_proto(
        Message.FromString(message_to_proto(message).SerializeToString())
    )


def grid_of(app, contexts, *, tamper=lambda reply: reply):
    """A network of one process: messages are bytes, and nodes answer one by one."""
    from flwr.serverapp import Grid

    class InProcess(Grid):
        def get_node_ids(self):
            return list(contexts)

        def send_and_receive(self, messages, *, timeout=None):
            for message in messages:
                context = contexts[message.metadata.dst_node_id]
                yield through_bytes(tamper(app(through_bytes(message), context)))

        def push_messages(self, messages):
            raise NotImplementedError

        pull_messages = create_message = set_run = run = push_messages

    InProcess.__abstractmethods__ = frozenset()
    return InProcess()


def app_of(compressor, *, train=None, app=None):
    """Clients of a linear regression each, or of what `train` does to their arrays."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = app or ClientApp(mods=[compression_mod(compressor)] if compressor else [])

    def fitted(arrays, node):
        rng = np.random.default_rng(node % 2**32)
        x = rng.normal(size=(64, 40))
        y = x @ truth()["weight"] + truth()["bias"]
        error = x @ arrays["weight"] + arrays["bias"] - y
        gradients = {"weight": x.T @ error / len(x), "bias": error.mean(axis=0)}
        return {
            "weight": (arrays["weight"] - 0.2 * gradients["weight"]).astype("f4"),
            "bias": (arrays["bias"] - 0.2 * gradients["bias"]).astype("f4"),
            "steps": np.asarray(int(arrays["steps"]) + 1),
        }

    @app.train()
    def local(message, context):
        received = message.content["arrays"]
        arrays = {name: array.numpy() for name, array in received.items()}
        arrays = (train or fitted)(arrays, context.node_id)
        # What the app does with the message afterwards has no effect.
        del message.content["arrays"]
        metrics = MetricRecord({"num-examples": 64})
        record = ArrayRecord({name: Array(x) for name, x in arrays.items()})
        content = RecordDict({"arrays": record, "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        arrays = message.content["arrays"]
        error = float(np.abs(arrays["weight"].numpy() - truth()["weight"]).mean())
        metrics = MetricRecord({"num-examples": 64, "error": error})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def truth():
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def contexts_of():
    from flwr.app import Context, RecordDict

    return {node: Context(1, node, {}, RecordDict(), {}) for node in NODES}


def started(app, strategy, *, rounds, contexts=None, **options):
    """The result of a run of so many rounds."""
    from flwr.app import Array, ArrayRecord

    start = {
        "weight": np.zeros(SHAPES["weight"], np.float32),
        "bias": np.zeros(SHAPES["bias"], np.float32),
        "steps": np.asarray(0),
    }
    return strategy.start(
        grid=grid_of(app, contexts or contexts_of(), **options),
        initial_arrays=ArrayRecord({name: Array(x) for name, x in start.items()}),
        num_rounds=rounds,
    )


def fedavg():
    from flwr.serverapp.strategy import FedAvg

    return FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)


def arrays_of(result):
    return {name: array.numpy() for name, array in result.arrays.items()}
