"""Networks as the edits use them: made of stored tensors, and run in eval mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vlmbook.validation import require_type


def load_tensors(network: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Module, dict of tensors -> the module itself, with these tensors, in eval mode.

    Raises TypeError or ValueError for tensors that are no such network's.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_type(state, "state", dict, "a dict of tensors")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"state wants the tensors of a {type(network).__name__}, got others: {reason}"
        ) from None
    return network.eval()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Module -> itself, in eval mode while the block runs; each of its parts comes back in the mode that it
    had.

    So batch normalisation takes no statistics of a reader's photograph. Raises TypeError.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield network.eval()
    finally:
        for module, mode in modes:
            module.training = mode
