"""Good calls of `vlmbook.dlib_format`."""

from functools import cache

from tests.support import dlib_writer
from tests.support.good_calls import Call
from vlmbook import dlib_format


@cache
def embedder():
    return dlib_writer.embedder()[0]


def predictor():
    return dlib_writer.predictor()[0]


GOOD_CALLS = {
    "read_face_resnet": lambda: Call(dlib_format.read_face_resnet, {"content": embedder(), "name": "a.dat"}),
    "read_shape_predictor": lambda: Call(
        dlib_format.read_shape_predictor, {"content": predictor(), "name": "a.dat"}
    ),
}
