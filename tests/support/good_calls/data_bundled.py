"""Good calls of vlmbook.data.bundled."""

from tests.support.good_calls import Call
from vlmbook.data import bundled

GOOD_CALLS = {
    "photo_names": lambda: Call(bundled.photo_names),
    "photo": lambda: Call(bundled.photo, {"name": "coins"}),
    "digits": lambda: Call(bundled.digits, {"split": "test", "size": 5}),
    "face_patches": lambda: Call(bundled.face_patches),
}
