"""Good calls of vlmbook.data.backgrounds."""

import numpy as np

from tests.support.good_calls import Call
from vlmbook.data.backgrounds import crop_photo

CROP = {"names": ("brick", "cat"), "size": 16, "channels": 3}
GOOD_CALLS = {"crop_photo": lambda: Call(crop_photo, {"rng": np.random.default_rng(0), **CROP})}
