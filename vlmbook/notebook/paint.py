"""A mask painted over an image with the mouse, and what a function makes of the hole."""

import base64
import html
import io
from collections.abc import Callable
from typing import Any

import ipycanvas
import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vlmbook.validation import require_callable, require_number, require_tensor, require_type, require_whole

PAINT = "#D55E00"
MOST = 1e6  # of a coordinate in pixels


class MaskPainter(widgets.VBox):
    """Image (C, H, W) in [0, 1], fill(image, mask) -> image: the reader paints a hole and presses *Fill*.

    `mask` is (1, H, W), 1 in the hole. `image` is what is shown now; *Undo* brings the one before back.
    `brush` is the width of a stroke as a share of the longer side; `side` the longer side on the screen in
    pixels. Without a kernel the image stays visible. Raises TypeError or ValueError for what is no image.
    """

    def __init__(
        self,
        image: torch.Tensor,
        fill: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        brush: float = 0.1,
        side: int = 280,
    ):
        self.fill = require_callable(fill, "fill", "a function (image, mask) -> image")
        self.brush = require_number(brush, "brush", above=0, most=1)
        self.side = require_whole(side, "side", least=16, most=4096)
        self.before = []  # the images that *Undo* brings back
        self.last = None  # where the mouse was, in pixels of the image, while its button is pressed
        self.canvas = ipycanvas.Canvas()
        self.canvas.on_mouse_down(self._press)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._release)
        self.canvas.on_mouse_out(self._release)
        buttons = {"Fill": self._fill, "Undo": self._undo, "Clear the mask": self._clear}
        self.buttons = {name: widgets.Button(description=name) for name in buttons}
        for name, act in buttons.items():
            self.buttons[name].on_click(act)
        self.trouble = widgets.HTML()
        self.show(image)
        self.first = _as_png(self._pixels())
        parts = [self.canvas, widgets.HBox([*self.buttons.values()]), self.trouble]
        super().__init__(parts, layout=widgets.Layout(align_items="flex-start"))  # else the canvas is widened

    def show(self, image: torch.Tensor) -> None:
        """(C, H, W) in [0, 1], C = 1 or 3 -> None: this image from now on, with an empty mask of its size.

        Raises TypeError or ValueError for what is no image.
        """
        require_tensor(image, "image", "C H W", least=0, most=1, finite=True)
        if len(image) not in (1, 3):
            raise ValueError(f"image wants 1 or 3 channels, got {len(image)}")
        self.image = image.detach()
        height, width = image.shape[1:]
        self.scale = self.side / max(height, width)  # pixels of the screen in one of the image
        self.radius = self.brush * max(height, width) / 2
        self.canvas.width = max(1, round(width * self.scale))
        self.canvas.height = max(1, round(height * self.scale))
        self._clear(None)

    def paint(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """(x, y), (x, y) in pixels of the image -> None: a stroke of the brush is added to the mask.

        Raises TypeError or ValueError for what is no pair of numbers.
        """
        self.mask = torch.maximum(self.mask, draw_stroke(self.mask, start, end, self.radius))
        self.canvas.stroke_style = self.canvas.fill_style = PAINT
        self.canvas.line_cap = "round"
        self.canvas.line_width = 2 * self.radius * self.scale
        (x, y), (x_end, y_end) = (tuple(place * self.scale for place in point) for point in (start, end))
        self.canvas.fill_circle(x, y, self.radius * self.scale)
        self.canvas.stroke_line(x, y, x_end, y_end)

    def _press(self, x, y):
        self.last = (x / self.scale, y / self.scale)
        self.paint(self.last, self.last)

    def _move(self, x, y):
        if self.last is not None:
            here = (x / self.scale, y / self.scale)
            self.paint(self.last, here)
            self.last = here

    def _release(self, x, y):
        self._move(x, y)  # moves are throttled on their way to the kernel: the last ones may be missing
        self.last = None

    def _fill(self, _button):
        if not self.mask.any():
            self.trouble.value = "Paint a hole first: press the mouse button over the image and move."
            return
        self.trouble.value = "…"
        try:
            sizes = dict(zip("CHW", self.image.shape, strict=True))
            filled = require_tensor(self.fill(self.image, self.mask), "the filled image", "C H W", **sizes)
        except Exception as error:  # a traceback in a callback goes to the log, where no reader looks
            self.trouble.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"
            return
        self.before.append(self.image)
        self.image = filled.detach()
        self._clear(None)

    def _undo(self, _button):
        if self.before:
            self.image = self.before.pop()
        self._clear(None)

    def _clear(self, _button):
        self.mask = torch.zeros_like(self.image[:1])
        self.trouble.value = ""
        self._redraw()

    def _redraw(self):
        self.canvas.put_image_data(self._pixels(), 0, 0)

    def _pixels(self):
        """-> (height, width, 3) uint8: the image as the screen shows it."""
        size = (self.canvas.height, self.canvas.width)
        shown = F.interpolate(self.image[None].float(), size, mode="nearest-exact")[0].clamp(0, 1)
        return (255 * shown).round().byte().expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()

    def _repr_mimebundle_(self, **kwargs: Any):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        png = base64.b64encode(self.first).decode()
        return data | {"image/png": png, "text/plain": "MaskPainter"}, metadata


def draw_stroke(
    mask: torch.Tensor, start: tuple[float, float], end: tuple[float, float], radius: float
) -> torch.Tensor:
    """(1, H, W), (x, y), (x, y), float -> (1, H, W): 1 where a pixel's middle is at most `radius` away from
    the line between both points, 0 elsewhere, in the mask's dtype. Raises TypeError or ValueError for what is
    no mask, no pair of numbers, or no radius above 0.
    """
    require_tensor(mask, "mask", "1 H W", kind="any")
    radius = require_number(radius, "radius", above=0)
    height, width = mask.shape[1:]
    start, end = _as_point(start, "start"), _as_point(end, "end")
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1) - start
    way = end - start
    share = (pixels @ way / way.square().sum().clamp(min=1e-12)).clamp(0, 1)
    distance = (pixels - share[..., None] * way).norm(dim=-1)
    return (distance <= radius)[None].to(mask)


def _as_point(point, name):
    """(x, y) -> (2,) float32. Raises TypeError or ValueError for what is no pair of numbers."""
    require_type(point, name, (tuple, list), "a pair (x, y)")
    if len(point) != 2:
        raise ValueError(f"{name} wants a pair (x, y), got {len(point)} values")
    bounds = {"least": -MOST, "most": MOST}
    return torch.tensor([require_number(place, name, **bounds) for place in point], dtype=torch.float32)


def _as_png(pixels: np.ndarray) -> bytes:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "png")
    return png.getvalue()
