"""Good calls of `vlmbook.face_embedder`."""

import numpy as np
import torch

from tests.support import dlib_writer
from tests.support.good_calls import Call
from vlmbook import face_embedder
from vlmbook.dlib_format import read_shape_predictor
from vlmbook.face_embedder import FaceBlock, FaceLandmarks, FaceResNet

POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 2.0]])


def state():
    return read_shape_predictor(dlib_writer.predictor()[0], "predictor.dat")


def face():
    return {
        "image": torch.rand(3, 20, 30),
        "box": torch.tensor([5, 5, 20, 15]),
        "landmarks": FaceLandmarks(state()),
    }


def aligned():
    return {"image": torch.rand(3, 20, 30), "points": torch.tensor([[9, 3], [7, 3], [1, 3], [3, 3], [5, 8]])}


GOOD_CALLS = {
    "FaceBlock": lambda: Call(FaceBlock, {"in_channels": 3, "channels": 5, "stride": 2}),
    "FaceBlock.forward": lambda: Call(FaceBlock(3, 5, 2), {"x": torch.rand(2, 3, 6, 7)}),
    "FaceResNet": lambda: Call(FaceResNet),
    "FaceResNet.forward": lambda: Call(FaceResNet(), {"x": torch.rand(1, 3, 150, 150)}),
    "FaceLandmarks": lambda: Call(FaceLandmarks, {"state": state()}),
    "align_face": lambda: Call(face_embedder.align_face, face()),
    "align_points": lambda: Call(face_embedder.align_points, aligned()),
    "fit_similarity": lambda: Call(face_embedder.fit_similarity, {"source": POINTS, "target": 2 * POINTS}),
}
