"""Good calls of vlmbook.data.rle."""

import torch

from tests.support.good_calls import Call
from vlmbook.data.rle import RLE, decode_mask, encode_mask, read_counts, write_counts

RUNS = RLE(4, 5, (3, 17))
GOOD_CALLS = {
    "encode_mask": lambda: Call(encode_mask, {"mask": torch.ones(4, 5, dtype=torch.bool)}),
    "decode_mask": lambda: Call(decode_mask, {"rle": RUNS}),
    "write_counts": lambda: Call(write_counts, {"rle": RUNS}),
    "read_counts": lambda: Call(read_counts, {"text": "3a0", "height": 4, "width": 5}),
}
