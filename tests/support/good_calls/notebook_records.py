"""Good calls of the public callables of `vlmbook.notebook.records`; what they write goes to the tests'
folder.
"""

from matplotlib.figure import Figure

from tests.support.good_calls import Call
from vlmbook.notebook import records

ENTRY = {"seconds": 3, "peak_memory_bytes": {"ram": 10**9}, "device": "CPU"}

GOOD_CALLS = {
    "output_folder": lambda: Call(records.output_folder),
    "record": lambda: Call(records.record, {"chapter": "ch99z", "seed": 0, "accuracy": [0.5, 0.6]}),
    "picture": lambda: Call(records.picture, {"chapter": "ch99z", "figure": Figure(figsize=(1, 1))}),
    "add_seconds": lambda: Call(
        records.add_seconds, {"path": records.record("ch99z", seed=0), "seconds": 3.0}
    ),
    "load": lambda: Call(
        records.load, {"chapter": "ch99z", "profile": "quick", "folder": records.output_folder()}
    ),
    "cost": lambda: Call(records.cost, {"entry": ENTRY}),
    "describe_memory": lambda: Call(records.describe_memory, {"peak": {"ram": 10**9, "gpu": 10**9}}),
    "published": lambda: Call(records.published, {"chapter": "ch03a"}),
    "show": lambda: Call(records.show, {"chapter": "ch03a", "profile": "quick"}),
}
