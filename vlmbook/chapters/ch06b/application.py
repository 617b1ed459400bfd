"""Chapter 6b's applications: a panel that edits a reader's photographs, and a blind comparison of two
methods.
"""

import base64
import html
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.data.images import MAX_PIXELS, TooManyPixels, resize_image
from vlmbook.editing import (
    Photograph,
    inpaint_photograph,
    read_photograph,
    save_photograph,
    stylise_photograph,
    upscale_photograph,
)
from vlmbook.editing.tiling import as_floating
from vlmbook.metrics import proportion_interval
from vlmbook.notebook.interact import render
from vlmbook.notebook.paint import MaskPainter
from vlmbook.validation import require_tensor, require_type

PREVIEW = 320  # pixels of the longer side on the screen
MOST_PIXELS = 24_000_000  # of an enlarged photograph
MOST_VERSIONS = 10  # that *Undo* brings back

# --- editing a photograph -----------------------------------------------------------------------------------


class EditingPanel(MaskPainter):
    """Photograph, {name: (3, h, w)} of styles, folder -> widgets: open a photograph, paint a hole, fill it,
    enlarge, paint in a style, undo, save as a new file.

    The screen shows a small copy. Filling and enlarging work on `photograph`, in its own size; painting makes
    it 256 pixels long. *Undo* goes back over an opened photograph too. The panel never writes to a file that
    exists. Raises TypeError or ValueError for what is no Photograph and for what are no styles.
    """

    def __init__(
        self,
        photograph: Photograph,
        styles: dict[str, torch.Tensor],
        folder: str | Path = ".",
        *,
        name: str = "photograph",
    ):
        require_type(photograph, "photograph", Photograph, "a Photograph")
        require_type(styles, "styles", dict, "a dict of images")
        for title, style in styles.items():
            require_tensor(style, f"styles[{title!r}]", "3 h w", kind="any")
        self.photograph = photograph
        self.versions = []  # earlier photographs and their names, for *Undo*
        self.name, self.folder, self.styles = name, Path(folder), styles
        self.status = widgets.HTML()
        super().__init__(_preview(photograph), self._fill_hole, brush=0.06, side=PREVIEW)
        self.upload = widgets.FileUpload(accept="image/*", multiple=False, description="Open")
        self.upload.observe(self._open, "value")
        self.style = widgets.Dropdown(options=list(styles), description="style")
        edits = {"Enlarge ×2": self._enlarge, "Paint in the style": self._stylise, "Save": self._save}
        self.buttons |= {label: widgets.Button(description=label) for label in edits}
        for label, act in edits.items():
            self.buttons[label].on_click(act)
        canvas, masking, trouble = self.children
        wrapped = widgets.Layout(flex_flow="row wrap")
        first = widgets.Box([self.upload, *masking.children], layout=wrapped)
        second = widgets.Box(
            [self.buttons["Enlarge ×2"], self.style, *map(self.buttons.get, list(edits)[1:])], layout=wrapped
        )
        self.children = [first, canvas, second, self.status, trouble]
        self._tell("Paint a hole with the mouse, and press Fill.")

    # --- what the buttons do --------------------------------------------------------------------------------

    def open_photograph(self, content: bytes, name: str) -> None:
        """Bytes of an image file, its name -> None: this photograph from now on.

        Raises ValueError for what is no image.
        """
        with tempfile.TemporaryDirectory(prefix="vlmbook-") as folder:
            path = Path(folder, "photograph")
            path.write_bytes(content)
            try:
                photograph = read_photograph(path, max_pixels=MAX_PIXELS)
            except TooManyPixels:
                raise ValueError(
                    f"{name} has more than {MAX_PIXELS:,} pixels, too many for this panel; use vlmbook edit "
                    "with --max-pixels"
                ) from None
            except ValueError as error:
                raise ValueError(str(error).replace(str(path), name)) from None
        self._keep()
        self._take(photograph, Path(name).stem)

    def edit(self, change: Callable[[Photograph], Photograph]) -> None:
        """Photograph -> Photograph: the change is made; *Undo* takes it back."""
        changed = change(self.photograph)
        self._keep()
        self._take(changed, self.name)

    def save(self) -> Path:
        """-> Path of a new PNG file in the folder, with the first number that is free."""
        for number in range(1, 10_000):
            path = self.folder / f"{self.name}-edited-{number}.png"
            try:
                return save_photograph(self.photograph, path)
            except FileExistsError:
                continue
        raise ValueError(f"{self.folder} holds 9,999 edited copies of {self.name}")

    # --- inside ---------------------------------------------------------------------------------------------

    def _open(self, change):
        if change.new:
            upload, self.upload.value = change.new[0], ()
            self._try(lambda: self.open_photograph(bytes(upload["content"]), upload["name"]))

    def _fill(self, button):
        with self._working():
            super()._fill(button)
        self.before = []  # `versions` are what *Undo* goes back over

    def _fill_hole(self, _image, mask):
        """What *Fill* calls: the mask grows to the photograph's size. -> the new preview"""
        size = tuple(self.photograph.pixels.shape[1:])
        hole = (F.interpolate(mask[None].float(), size)[0] > 0.5).float()
        self.edit(lambda photograph: inpaint_photograph(photograph, hole))
        return self.image

    def _enlarge(self, _button):
        _, height, width = self.photograph.pixels.shape
        if 4 * height * width > MOST_PIXELS:
            self._tell(
                f"{2 * width}×{2 * height} pixels are more than this panel makes. Use vlmbook edit upscale."
            )
            return
        self._try(lambda: self.edit(lambda photograph: upscale_photograph(photograph, 2)))

    def _stylise(self, _button):
        if not self.styles:
            self._tell("There is no style to paint in.")
            return
        style = Photograph(self.styles[self.style.value])
        self._try(lambda: self.edit(lambda photograph: stylise_photograph(photograph, style, size=256)))

    def _save(self, _button):
        self._try(lambda: self._tell(f"Saved as {self.save().name}."))

    def _undo(self, _button):
        if self.versions:
            self._take(*self.versions.pop())

    def _try(self, action):
        """What is wrong is a sentence for the reader, not a traceback in a log."""
        self._tell("…")
        try:
            with self._working():
                action()
        except Exception as error:
            self._tell(f"{error}.")

    @contextmanager
    def _working(self) -> Iterator[None]:
        """While the block runs, no button can be pressed a second time."""
        for each in (self.upload, *self.buttons.values()):
            each.disabled = True
        try:
            yield
        finally:
            for each in (self.upload, *self.buttons.values()):
                each.disabled = False

    def _keep(self):
        """*Undo* comes back to what is shown now."""
        self.versions = [*self.versions, (self.photograph, self.name)][-MOST_VERSIONS:]

    def _take(self, photograph, name):
        self.photograph, self.name = photograph, name
        self.show(_preview(photograph))
        channels, height, width = photograph.pixels.shape
        kind = "grey" if channels == 1 else "colour"
        self._tell(f"{self.name}: {width}×{height} pixels, {kind}. {photograph.note}")

    def _tell(self, sentence):
        self.status.value = html.escape(sentence)


def _preview(photograph):
    """Photograph -> (C, h, w) floating, its longer side PREVIEW pixels or its own."""
    pixels = as_floating(photograph.pixels)
    scale = PREVIEW / max(pixels.shape[1:])
    if scale >= 1:
        return pixels
    return resize_image(pixels, tuple(max(1, round(scale * side)) for side in pixels.shape[1:])).clamp(0, 1)


# --- which one is better? -----------------------------------------------------------------------------------


class BlindTest(widgets.VBox):
    """{method: images}, two methods with equally many images -> widgets: pair after pair, without names; the
    reader says which image is better, and gets the count with its interval at the end.

    `choices` holds the chosen method of each pair, or "no difference". The generator decides what is on the
    left.
    """

    def __init__(self, images: dict[str, Sequence[torch.Tensor]], generator: torch.Generator | None = None):
        self.images = images
        self.methods = tuple(images)
        count = len(images[self.methods[0]])
        if len(self.methods) != 2 or any(len(each) != count for each in images.values()):
            raise ValueError("images wants two methods with equally many images, got others")
        order = torch.rand(count, 2, generator=generator)
        self.order = order[:, 0].argsort().tolist()
        self.swapped = (order[:, 1] < 0.5).tolist()
        self.choices = []
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.status = widgets.HTML()
        self.buttons = {name: widgets.Button(description=name) for name in ("left", "right", "no difference")}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.choose(name))
        self._show()
        super().__init__([self.picture, widgets.HBox(list(self.buttons.values())), self.status])

    def choose(self, side: str) -> None:
        """ "left", "right" or "no difference" -> None: the answer to this pair; the next pair is shown."""
        if len(self.choices) == len(self.order):
            return
        left, right = self._sides()
        self.choices.append({"left": left, "right": right}.get(side, side))
        self._show()

    def result(self) -> tuple[int, int, float, float]:
        """-> how often the second method was chosen, of how many decisions, and the 95 % interval of the
        share [Wilson 1927]; (0, 0, 0, 1) without a decision.
        """
        decided = [choice for choice in self.choices if choice in self.methods]
        if not decided:
            return 0, 0, 0.0, 1.0
        chosen = decided.count(self.methods[1])
        return chosen, len(decided), *proportion_interval(chosen / len(decided), len(decided))

    def _sides(self):
        """-> (str, str): which method stands left, and which right."""
        return self.methods[::-1] if self.swapped[len(self.choices)] else self.methods

    def _show(self):
        done = len(self.choices)
        if done < len(self.order):
            index = self.order[done]
            pair = [self.images[method][index] for method in self._sides()]
            self.picture.value = render(draw_pair, (7.0, 3.6), pair=pair)
            self.status.value = f"Pair {done + 1} of {len(self.order)}: which image is better?"
            return
        chosen, decided, low, high = self.result()
        self.status.value = html.escape(
            f"You chose {self.methods[1]} in {chosen} of {decided} pairs with a decision. "
            f"The 95 % interval of the share is {low:.0%} to {high:.0%}."
        )

    def _repr_mimebundle_(self, **kwargs: Any):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        png = base64.b64encode(self.picture.value).decode()
        return data | {"image/png": png, "text/plain": "blind test"}, metadata


def draw_pair(figure: Figure, pair: Sequence[torch.Tensor]) -> None:
    """Two images: left and right."""
    for axes, image, title in zip(figure.subplots(1, 2), pair, ("left", "right"), strict=True):
        plot.image(axes, image.clamp(0, 1), title)
