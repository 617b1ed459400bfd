"""Good calls of `vlmbook.distillation`."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.distillation import (
    attention_map,
    attention_transfer_loss,
    distill,
    distillation_loss,
    fitnets_loss,
    predict_logits,
    soft_labels,
    soft_loss,
    train_born_again,
)
from vlmbook.resnet import BasicBlock, ResNet

SETTINGS = {"epochs": 1, "batch_size": 2, "lr": 0.01, "progress": False}


def network():
    return ResNet(BasicBlock, (1,), 5, 3, width=4, small=True)


def losses():
    return {
        "student_logits": torch.randn(2, 5),
        "teacher_logits": torch.randn(2, 5),
        "temperature": 2.0,
    }


def maps():
    return {"student_map": torch.rand(2, 3, 6, 7), "teacher_map": torch.rand(2, 3, 6, 7)}


def data():
    return {"images": torch.rand(2, 3, 6, 7), "labels": torch.tensor([4, 0])}


def distill_once(**arguments):
    return distill(**arguments, **SETTINGS)


def train_born_again_once(**arguments):
    return train_born_again(**arguments, **SETTINGS)


GOOD_CALLS = {
    "soft_labels": lambda: Call(soft_labels, {"logits": torch.randn(2, 5), "temperature": 2.0}),
    "soft_loss": lambda: Call(soft_loss, losses()),
    "distillation_loss": lambda: Call(
        distillation_loss, losses() | {"labels": torch.tensor([4, -100]), "alpha": 0.5}
    ),
    "fitnets_loss": lambda: Call(fitnets_loss, maps() | {"regressor": nn.Identity()}),
    "attention_map": lambda: Call(attention_map, {"features": torch.rand(2, 3, 6, 7)}),
    "attention_transfer_loss": lambda: Call(attention_transfer_loss, maps()),
    "predict_logits": lambda: Call(
        predict_logits, {"model": network(), "images": torch.rand(2, 3, 6, 7), "batch_size": 1}
    ),
    "distill": lambda: Call(
        distill_once,
        {"student": network(), "teacher_logits": torch.randn(2, 5), "temperature": 2.0, "alpha": 0.5}
        | data(),
    ),
    "train_born_again": lambda: Call(
        train_born_again_once,
        {"make_model": network, "generations": 2, "temperature": 2.0, "alpha": 0.5} | data(),
    ),
}
