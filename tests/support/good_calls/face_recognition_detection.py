"""Good calls of vlmbook.face_recognition.detection."""

import torch

from tests.support.good_calls import Call
from vlmbook.face_recognition import detection
from vlmbook.face_recognition.detection import HogDetector

IMAGE = torch.arange(3 * 40 * 50).view(3, 40, 50).float().sin().abs()
PATCHES = torch.arange(6 * 400).view(6, 1, 20, 20).float().cos().abs()
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def trained():
    return HogDetector().fit(PATCHES, LABELS)


GOOD_CALLS = {
    "detect_faces": lambda: Call(
        detection.detect_faces,
        {"image": IMAGE, "votes": 2, "scale": 1.2, "border": 0.2, "smallest": 24, "longest": 100},
    ),
    "group_windows": lambda: Call(
        detection.group_windows, {"windows": torch.tensor([[0.0, 0, 9, 9], [1, 1, 9, 9]]), "overlap": 0.5}
    ),
    "HogDetector": lambda: Call(HogDetector, {"regularisation": 0.1, "seed": 3}),
    "HogDetector.fit": lambda: Call(HogDetector().fit, {"patches": PATCHES, "labels": LABELS}),
    "HogDetector.score": lambda: Call(trained().score, {"patches": PATCHES}),
    "HogDetector.collect": lambda: Call(trained().collect, {"image": IMAGE, "most": 3, "longest": 100}),
    "require_image": lambda: Call(detection.require_image, {"image": IMAGE, "name": "image"}),
    "require_values": lambda: Call(detection.require_values, {"x": IMAGE, "name": "x"}),
}
