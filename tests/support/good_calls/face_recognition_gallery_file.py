"""Good calls of vlmbook.face_recognition.gallery_file."""

import numpy as np

from tests.support.good_calls import Call
from vlmbook.face_recognition import gallery_file

PEOPLE = {"Anna": np.ones((2, 3), np.float32)}

GOOD_CALLS = {
    "pack": lambda: Call(gallery_file.pack, {"people": PEOPLE, "network": "abc"}),
    "unpack": lambda: Call(
        gallery_file.unpack,
        {"content": gallery_file.pack(PEOPLE, "abc"), "network": "abc", "source": "a.gallery"},
    ),
    "read": lambda: Call(gallery_file.read, {"path": "a.gallery", "network": "abc"}),
    "find_version": lambda: Call(gallery_file.find_version, {"path": "a.gallery"}),
    "as_name": lambda: Call(gallery_file.as_name, {"name": "Anna"}),
}
