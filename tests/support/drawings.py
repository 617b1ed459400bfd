"""What every test of a chapter's drawings needs: all ends of its controls, and a figure that was looked
at.
"""

import io
from itertools import product

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vlmbook import plot


def every_end(controls):
    """Each combination of the ends, and each value of one control with the others at draw's default."""
    ends = product(*((values[0], values[-1]) for values in controls.values()))
    singles = [{name: value} for name, values in controls.items() for value in values]
    return [dict(zip(controls, values, strict=True)) for values in ends] + singles


def drawn(draw, size, /, **values):
    """-> the figure, after it was seen to be drawn with no blank picture and each text inside and apart."""
    with plot.style():
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        draw(figure, **values)
        canvas, png = FigureCanvasAgg(figure), io.BytesIO()
        canvas.print_png(png)
        boxes = {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in texts(figure)}
    with Image.open(png) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape == (round(size[1] * 100), round(size[0] * 100))
    assert np.ptp(pixels) > 100 and len(np.unique(pixels)) > 8
    for text, box in boxes.items():
        left, low, right, high = box.extents
        assert -0.5 < left < right < size[0] * 100 + 0.5 and -0.5 < low < high < size[1] * 100 + 0.5, text
    for axes in figure.axes:
        assert axes.get_label() == "<colorbar>" or axes.get_window_extent().width > 60
    titles = [(text, box) for text, box in boxes.items() if " " in text]  # not the numbers in cells
    for number, (text, box) in enumerate(titles):
        assert not [other for other, there in titles[:number] if box.overlaps(there)], text
    return figure


def texts(figure):
    """What is written: titles, labels where the axes are shown, and text in the axes."""
    for axes in figure.axes:
        shown = [axes.title, axes._left_title, axes._right_title, *axes.texts]
        if axes.axison:
            shown += [axes.xaxis.label, axes.yaxis.label]
            for axis, ends in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
                shown += [
                    tick.label1 for tick in axis.get_major_ticks() if ends[0] <= tick.get_loc() <= ends[1]
                ]
        yield from (text for text in shown if text.get_text())


def pictures(figure):
    return [torch.as_tensor(np.asarray(axes.images[0].get_array())) for axes in figure.axes if axes.images]
