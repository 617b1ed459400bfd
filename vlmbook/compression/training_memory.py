"""The memory that a step of training needs: weights, gradients, the optimizer's state, and the tensors that
the backward pass will read.
"""

from typing import NamedTuple

import torch
from torch import nn

from vlmbook.compression.counting import ADAM_BYTES, count_parameters
from vlmbook.validation import describe, require_tensor, require_type


class TrainingMemory(NamedTuple):
    """Bytes."""

    state: int  # weights, gradients and Adam's two means: 16 a parameter
    saved: int  # tensors that the forward pass keeps for the backward pass

    @property
    def total(self) -> int:
        return self.state + self.saved


def measure_training_memory(model: nn.Module, x: torch.Tensor) -> TrainingMemory:
    """Module, (B, …) input -> TrainingMemory of float32 training with Adam.

    The saved tensors are those that autograd really keeps, each storage once, without the weights; on the
    meta device nothing is computed. The model runs in the modes that its modules have. The kernels' own
    working memory is not counted. Raises TypeError or ValueError for an input that the model cannot take.
    """
    require_type(model, "model", nn.Module, "an nn.Module")
    require_tensor(x, "x", "…", kind="any")
    weights = [*model.parameters(), *model.buffers()]
    own = {_key(each) for each in weights}
    kept = {}

    def note(tensor):
        key = _key(tensor)
        if key not in own:
            kept[key] = (tensor.untyped_storage().nbytes(), tensor)  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        try:
            with torch.enable_grad():
                output = model(x)
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ValueError(f"x wants to be an input of the model, got {describe(x)}: {line}") from None
    del output
    saved = sum(size for size, _ in kept.values())
    return TrainingMemory(ADAM_BYTES * count_parameters(model), saved)


def _key(tensor):
    """What two tensors on one storage share; on the meta device there is no address."""
    return tensor.untyped_storage()._cdata
