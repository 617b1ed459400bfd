"""Good calls of vlmbook.data.scenes."""

from tests.support.good_calls import Call
from vlmbook.data.scenes import scenes

SCENE = {"split": "test", "n": 1, "size": 32, "seed": 1, "objects": (1, 2)}
GOOD_CALLS = {"scenes": lambda: Call(scenes, SCENE)}
