"""Good calls of vlmbook.face_recognition.heads."""

import torch

from tests.support.good_calls import Call
from vlmbook.face_recognition import heads

E = torch.nn.functional.normalize(torch.arange(24.0).view(6, 4).cos())
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
BATCH = {"embeddings": E, "labels": LABELS}
SOFTMAX = {"width": 4, "people": 3, "scale": 8.0}
ARCFACE = SOFTMAX | {"margin": 0.2}

GOOD_CALLS = {
    "SoftmaxHead": lambda: Call(heads.SoftmaxHead, SOFTMAX),
    "SoftmaxHead.logits": lambda: Call(heads.SoftmaxHead(**SOFTMAX).logits, {"embeddings": E}),
    "SoftmaxHead.forward": lambda: Call(heads.SoftmaxHead(**SOFTMAX).forward, BATCH),
    "ArcFaceHead": lambda: Call(heads.ArcFaceHead, ARCFACE),
    "ArcFaceHead.cosines": lambda: Call(heads.ArcFaceHead(**ARCFACE).cosines, {"embeddings": E}),
    "ArcFaceHead.logits": lambda: Call(heads.ArcFaceHead(**ARCFACE).logits, BATCH),
    "ArcFaceHead.forward": lambda: Call(heads.ArcFaceHead(**ARCFACE).forward, BATCH),
    "add_angle": lambda: Call(heads.add_angle, {"cosines": torch.tensor([0.5, -0.9]), "margin": 0.3}),
    "triplet_loss": lambda: Call(heads.triplet_loss, BATCH | {"margin": 0.2}),
}
