"""Good calls of vlmbook.data.textures."""

from tests.support.good_calls import Call
from vlmbook.data.textures import textures

GOOD_CALLS = {"textures": lambda: Call(textures, {"n": 1, "size": 16, "seed": 1})}
