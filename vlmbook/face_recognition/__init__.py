"""Face recognition: faces are detected, aligned, embedded, and compared with those of enrolled people.

An image is (1, H, W) or (3, H, W) floating in [0, 1]. A box is xyxy in pixels. Two embeddings are compared by
their Euclidean distance.
"""

from vlmbook.face_embedder import FaceLandmarks, align_face
from vlmbook.face_recognition.baselines import Eigenfaces, lbp_histograms
from vlmbook.face_recognition.detection import HogDetector, detect_faces, group_windows
from vlmbook.face_recognition.embedding import (
    FacePipeline,
    Faces,
    SmallEmbedder,
    crop_box,
    cut_faces,
    embed,
    pretrained_pipeline,
    standardise,
)
from vlmbook.face_recognition.gallery import Gallery, Identification, Verification
from vlmbook.face_recognition.heads import ArcFaceHead, SoftmaxHead, add_angle, triplet_loss
from vlmbook.face_recognition.verification import (
    Confusion,
    OpenSet,
    Pairs,
    Roc,
    best_threshold,
    bootstrap_people,
    confusion,
    equal_error_rate,
    fold_accuracy,
    make_pairs,
    open_set_identification,
    roc_curve,
    tar_at_far,
)

__all__ = [
    "ArcFaceHead",
    "Confusion",
    "Eigenfaces",
    "FaceLandmarks",
    "FacePipeline",
    "Faces",
    "Gallery",
    "HogDetector",
    "Identification",
    "OpenSet",
    "Pairs",
    "Roc",
    "SmallEmbedder",
    "SoftmaxHead",
    "Verification",
    "add_angle",
    "align_face",
    "best_threshold",
    "bootstrap_people",
    "confusion",
    "crop_box",
    "cut_faces",
    "detect_faces",
    "embed",
    "equal_error_rate",
    "fold_accuracy",
    "group_windows",
    "lbp_histograms",
    "make_pairs",
    "open_set_identification",
    "pretrained_pipeline",
    "roc_curve",
    "standardise",
    "tar_at_far",
    "triplet_loss",
]
