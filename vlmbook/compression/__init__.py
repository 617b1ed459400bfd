"""What a network costs, and what makes it cheaper: counting, quantisation, pruning, folding, measured time.

Nothing here changes the network that it is given; a changed one is a copy.
"""

from vlmbook.compression.counting import (
    ADAM_BYTES,
    LayerCost,
    count_layers,
    count_parameters,
    separable_macs,
    window_macs,
)
from vlmbook.compression.folding import fold_norm, fold_norms
from vlmbook.compression.latency import (
    Latency,
    Machine,
    attainable,
    measure_latency,
    measure_machine,
)
from vlmbook.compression.pruning import prune_channels, prune_magnitude, sparse_bytes, sparsity
from vlmbook.compression.quantisation import (
    Quantised,
    dequantise,
    quantise,
    quantise_affine,
    quantise_network,
    quantised_linear,
)
from vlmbook.compression.training_memory import TrainingMemory, measure_training_memory

__all__ = [
    "ADAM_BYTES",
    "Latency",
    "LayerCost",
    "Machine",
    "Quantised",
    "TrainingMemory",
    "attainable",
    "count_layers",
    "count_parameters",
    "dequantise",
    "fold_norm",
    "fold_norms",
    "measure_latency",
    "measure_machine",
    "measure_training_memory",
    "prune_channels",
    "prune_magnitude",
    "quantise",
    "quantise_affine",
    "quantise_network",
    "quantised_linear",
    "separable_macs",
    "sparse_bytes",
    "sparsity",
    "window_macs",
]
