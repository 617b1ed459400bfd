"""Good calls of `vlmbook.compression.latency`."""

from tests.support.good_calls import Call
from vlmbook.compression import latency
from vlmbook.compression.latency import Latency, Machine


def nothing():
    return None


GOOD_CALLS = {
    "Latency.percentile": lambda: Call(Latency((0.1, 0.3, 0.2)).percentile, {"share": 95}),
    # `repeats` is bounded by the reader's patience alone.
    "measure_latency": lambda: Call(
        latency.measure_latency, {"run": nothing, "repeats": 3, "warmup": 1}, free=("run",)
    ),
    "measure_machine": lambda: Call(latency.measure_machine, {"side": 8, "megabytes": 1, "repeats": 2}),
    "attainable": lambda: Call(latency.attainable, {"intensity": 2.0, "machine": Machine(1e9, 1e8)}),
}
