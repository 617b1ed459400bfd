"""The drawings of the chapters that are too long for a notebook cell: `vlmbook.figures.ch03a` draws for chapter 3a.

Each is a pure function of a matplotlib Figure and some plain values, as `vlmbook.interact.live` takes it.
"""
