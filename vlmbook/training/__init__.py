"""Training: `fit`, one loop, and the checkpoint from which it goes on."""

from vlmbook.training.checkpoint import History
from vlmbook.training.loop import batches, fit, learning_rate

__all__ = ["History", "batches", "fit", "learning_rate"]
