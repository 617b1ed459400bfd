"""Good calls of vlmbook.face_recognition.baselines."""

import torch

from tests.support.good_calls import Call
from vlmbook.face_recognition import baselines

FACES = torch.arange(9 * 80).view(9, 1, 8, 10).float().sin().abs()

GOOD_CALLS = {
    "Eigenfaces": lambda: Call(baselines.Eigenfaces, {"faces": FACES, "components": 4, "first": 1}),
    "lbp_histograms": lambda: Call(baselines.lbp_histograms, {"faces": FACES, "grid": (2, 3)}),
}
