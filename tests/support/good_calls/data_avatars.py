"""Good calls of vlmbook.data.avatars."""

from tests.support.good_calls import Call
from vlmbook.data import avatars

GOOD_CALLS = {"avatars": lambda: Call(avatars, {"people": 1, "shots": 2, "size": 16, "seed": 1})}
