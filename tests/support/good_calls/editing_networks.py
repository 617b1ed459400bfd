"""Good calls of vlmbook.editing.networks."""

from torch import nn

from tests.support.good_calls import Call
from vlmbook.editing import networks


def evaluate(network):
    with networks.evaluating(network):
        pass


GOOD_CALLS = {
    "load_tensors": lambda: Call(
        networks.load_tensors, {"network": nn.Linear(2, 3), "state": nn.Linear(2, 3).state_dict()}
    ),
    "evaluating": lambda: Call(evaluate, {"network": nn.Linear(2, 3)}),
}
