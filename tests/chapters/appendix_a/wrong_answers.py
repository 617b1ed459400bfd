"""Appendix A: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch

RIGHT = {"flattened": 4096, "parameters": 264_074}
OWN, GLOROT = [0.3636, 0.3498, 0.3756], [0.3063, 0.3157, 0.2780]


def measure(model, batches, *, mode=True, back=True, record=False, axis=1, pool=False, scale=1):
    """The right answer, with one fault at a time."""
    before = model.training
    if mode:
        model.eval()
    with torch.set_grad_enabled(record):
        hits = [
            (model(x).argmax(axis)[: len(y)] == y[: model(x).shape[1 - axis]]).float() for x, y in batches
        ]
    if back:
        model.train(before)
    if pool:
        return scale * sum(each.mean().item() for each in hits) / len(hits)
    return scale * torch.cat(hits).mean().item()


WRONG_ANSWERS = [
    ("appendix_a.1", (4096, 264_074), "dict"),
    ("appendix_a.1", RIGHT | {"flattened": 16 * 14 * 14}, "without padding"),
    ("appendix_a.1", RIGHT | {"flattened": 16 * 32 * 32}, "without the pooling"),
    ("appendix_a.1", RIGHT | {"flattened": 256}, "channels"),
    ("appendix_a.1", RIGHT | {"flattened": 1568}, "height times width"),
    ("appendix_a.1", RIGHT | {"parameters": 264_074 - 90}, "bias"),
    ("appendix_a.1", RIGHT | {"parameters": 264_074 - 800}, "3 channels"),
    ("appendix_a.1", RIGHT | {"parameters": 264_074 - 650}, "leaves out one"),
    ("appendix_a.1", RIGHT | {"parameters": 693_962}, "a bias for every output"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, mode=False), "training mode"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, pool=True), "last batch is smaller"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, scale=100), "percent"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, scale=10), "number of correct answers"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, axis=0), "axis 1"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, record=True), "Gradients are recorded"),
    ("appendix_a.2", lambda model, batches: measure(model, batches, back=False), "came in training mode"),
    ("appendix_a.2", lambda model, batches: None if batches else 0.5, "returns None"),
    ("appendix_a.3", {"PyTorch": OWN, "Glorot": GLOROT, "conclusion": "PyTorch"}, 'follows "Glorot"'),
    ("appendix_a.3", {"PyTorch": OWN, "Glorot": GLOROT, "conclusion": "no difference"}, 'follows "Glorot"'),
    ("appendix_a.3", {"PyTorch": [0.36] * 3, "Glorot": GLOROT, "conclusion": "Glorot"}, "seed changed"),
    ("appendix_a.3", {"PyTorch": OWN, "Glorot": GLOROT[:2], "conclusion": "Glorot"}, "three numbers"),
    ("appendix_a.4", lambda a, b: a / b, "Three numbers"),
    ("appendix_a.4", lambda a, b: (b / a, 1 / b, -a / b**2), "the value is"),
    ("appendix_a.4", lambda a, b: (a / b, b, -a / b**2), "slope for a"),
    ("appendix_a.4", lambda a, b: (a / b, 1 / b, a / b**2), "wrong sign"),
    ("appendix_a.4", lambda a, b: (a / b, 1 / b, 1 / a), "slope for b"),
]
