"""Answers that claim to equal everything: a judge compares plain numbers, and is not deceived."""

import torch


class AgreeableTensor(torch.Tensor):
    """A tensor for which every comparison holds."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("allclose", "equal", "isclose", "eq", "__eq__"):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})


class AgreeableNumber:
    """A number for which every comparison holds; it is 3."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __le__ = __ge__ = __eq__
    __lt__ = __gt__ = __ne__

    def __index__(self):
        return 3

    __int__ = __index__

    def __float__(self):
        return 3.0

    def __sub__(self, other):
        return self

    def __abs__(self):
        return self
