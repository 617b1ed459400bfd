"""Good calls of vlmbook.face_recognition.gallery, each in a folder of its own."""

import torch

from tests.support.faces import small_pipeline
from tests.support.good_calls import Call
from tests.support.good_calls.files import in_a_new_folder
from vlmbook.face_recognition.gallery import Gallery

IMAGE = torch.arange(3 * 40 * 50).view(3, 40, 50).float().sin().abs()


def gallery():
    one = Gallery(small_pipeline())
    one.enroll("Anna", IMAGE)
    return one


def vectors():
    return torch.ones(2, 8)


GOOD_CALLS = {
    "Gallery": lambda: Call(
        in_a_new_folder(Gallery), {"pipeline": small_pipeline(), "path": "a.gallery", "threshold": 0.5}
    ),
    "Gallery.names": lambda: Call(gallery().names),
    "Gallery.count": lambda: Call(gallery().count, {"name": "Anna"}),
    "Gallery.enroll": lambda: Call(gallery().enroll, {"name": "Bo", "images": IMAGE}),
    "Gallery.enroll_embeddings": lambda: Call(
        gallery().enroll_embeddings, {"name": "Bo", "embeddings": vectors()}
    ),
    "Gallery.remove": lambda: Call(gallery().remove, {"name": "Anna"}),
    "Gallery.verify": lambda: Call(gallery().verify, {"name": "Anna", "image": IMAGE}),
    "Gallery.identify": lambda: Call(gallery().identify, {"image": IMAGE}),
    "Gallery.search": lambda: Call(gallery().search, {"embeddings": vectors(), "k": 1}),
}
