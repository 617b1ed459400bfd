"""Good calls of vlmbook.runtime."""

from tests.support.good_calls import Call
from vlmbook import runtime

GOOD_CALLS = {
    "device": lambda: Call(runtime.device),
    "autocast_precision": lambda: Call(runtime.autocast_precision),
    "device_name": lambda: Call(runtime.device_name),
    "seed_everything": lambda: Call(runtime.seed_everything, {"seed": 3}),
    "profile": lambda: Call(runtime.profile),
    "pick": lambda: Call(runtime.pick, {"quick": 1, "full": 2}),
    "data_folder": lambda: Call(runtime.data_folder),
    # `name` is written by the caller into the sentence.
    "require_path": lambda: Call(runtime.require_path, {"value": "a", "name": "folder"}, free=("name",)),
    "peak_memory": lambda: Call(runtime.peak_memory),
    "gigabytes": lambda: Call(runtime.gigabytes, {"size": 10**9}),
}
