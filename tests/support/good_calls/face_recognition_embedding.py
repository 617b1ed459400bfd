"""Good calls of vlmbook.face_recognition.embedding."""

import torch

from tests.support import dlib_writer
from tests.support.faces import central_box
from tests.support.good_calls import Call
from vlmbook.dlib_format import read_shape_predictor
from vlmbook.face_embedder import FaceLandmarks
from vlmbook.face_recognition import embedding
from vlmbook.face_recognition.embedding import FacePipeline, SmallEmbedder

IMAGE = torch.arange(3 * 40 * 50).view(3, 40, 50).float().sin().abs()
CHIPS = torch.arange(2 * 144).view(2, 1, 12, 12).float().sin().abs()
BOX = torch.tensor([5.0, 6, 30, 31])


def landmarks():
    return FaceLandmarks(read_shape_predictor(dlib_writer.predictor()[0], "predictor.dat"))


def network():
    torch.manual_seed(0)
    return SmallEmbedder(1, width=8, stem=4, blocks=(1, 1))


GOOD_CALLS = {
    "SmallEmbedder": lambda: Call(SmallEmbedder, {"in_channels": 1, "width": 8, "stem": 4, "blocks": (1, 1)}),
    "SmallEmbedder.forward": lambda: Call(network().forward, {"x": CHIPS}),
    "standardise": lambda: Call(embedding.standardise, {"x": CHIPS}),
    "embed": lambda: Call(
        embedding.embed, {"chips": CHIPS, "network": network(), "mirror": True, "batch_size": 1}
    ),
    "cut_faces": lambda: Call(
        embedding.cut_faces, {"image": IMAGE, "boxes": BOX[None], "landmarks": landmarks(), "size": 20}
    ),
    "crop_box": lambda: Call(embedding.crop_box, {"image": IMAGE, "box": BOX, "size": 20}),
    "FacePipeline": lambda: Call(
        FacePipeline,
        {"network": network(), "landmarks": landmarks(), "detect": central_box, "mirror": False},
    ),
    "pretrained_pipeline": lambda: Call(embedding.pretrained_pipeline),
    "digest_network": lambda: Call(embedding.digest_network, {"network": network()}),
}
