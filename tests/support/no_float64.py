"""A device without float64, as Apple's MPS is one, for tests on machines that have none."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class WithoutFloat64(torch.Tensor):
    """A tensor that claims to be on "mps": what makes float64 there raises; `.cpu()` returns a plain tensor.

    Its values lie on the CPU. It takes element-wise operations and reductions; PyTorch's networks need more.
    """

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device="mps"
        )

    def __init__(self, values):
        self.values_on_cpu = values

    def item(self):
        return self.values_on_cpu.item()

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        leaves = device is not None and torch.device(device).type == "cpu"
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        result = function(*tree_map(_plain, args), **tree_map(_plain, kwargs))
        return result if leaves else tree_map(_wrap, result)


class RefuseFloat64(TorchDispatchMode):
    """Inside, whatever makes a float64 tensor, on any device, raises."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        tree_map(_refuse, result)
        return result


def _plain(value):
    return value.values_on_cpu if isinstance(value, WithoutFloat64) else value


def _wrap(value):
    _refuse(value)
    return WithoutFloat64(value) if isinstance(value, torch.Tensor) else value


def _refuse(value):
    if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
        raise TypeError("float64 on a device that has none")
