"""Folded normalisations give the outputs of the two layers, as PyTorch's own fusion does."""

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.testing import assert_close
from torchvision.models import mobilenet_v2

from vlmbook.compression import fold_norm, fold_norms
from vlmbook.efficientnet import efficientnet_lite0
from vlmbook.resnet import resnet18, resnet20


def stir(model):
    """Running statistics, scales and shifts that are not those of a fresh layer."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.normal_()
    return model.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_convolution_does_what_both_layers_did(bias, affine, groups, dtype):
    conv = nn.Conv2d(3, 6, (3, 5), 2, padding=1, groups=groups, bias=bias)
    norm = stir(nn.Sequential(nn.BatchNorm2d(6, affine=affine)))[0]
    conv, norm = conv.to(dtype), norm.to(dtype)
    folded = fold_norm(conv, norm)
    x = torch.rand(2, 3, 7, 9, dtype=dtype)
    tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    assert_close(folded(x), norm(conv(x)), **tolerance)
    assert folded.weight.dtype == dtype
    if affine:
        oracle = fuse_conv_bn_eval(conv.eval(), norm)
        assert_close(folded.weight, oracle.weight, **tolerance)
        assert_close(folded.bias, oracle.bias, **tolerance)


@pytest.mark.parametrize("make", [resnet18, resnet20, efficientnet_lite0, lambda: mobilenet_v2(weights=None)])
def test_a_whole_network_gives_the_same_outputs_without_any_normalisation(make):
    model = make()
    model.train()
    with torch.no_grad():
        model(torch.rand(8, 3, 64, 48))  # statistics with which the signal keeps its size
    model.eval()
    folded = fold_norms(model)
    x = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        assert_close(folded(x), model(x), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def test_a_normalisation_that_does_not_follow_a_convolution_stays():
    model = stir(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    folded = fold_norms(model)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded) == 2
    x = torch.rand(1, 3, 5, 7)
    assert_close(folded(x), model(x))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="norm wants 4 channels"):
        fold_norm(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match="norm wants running statistics"):
        fold_norm(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
