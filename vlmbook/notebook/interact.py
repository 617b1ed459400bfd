"""Live figures: a pure drawing function, its controls, and a picture that also shows where no kernel runs."""

import base64
import html
import io
from inspect import Parameter, signature
from itertools import chain

import ipywidgets as widgets
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vlmbook import plot


def live(draw, *, figsize=(7.0, 3.0), **controls):
    """draw(figure, **values), a control for each value -> Live: shown in a notebook, it redraws when a
    control moves.

    A control is one of ipywidgets' abbreviations ((1, 9) a slider, [a, b] or {"name": a} a menu, True a box),
    which starts at draw's default for that name, or a widget. `figsize` is in inches at 100 dots an inch.
    Raises ValueError where controls and draw's parameters differ, and whatever draw raises for the first
    values.
    """
    defaults = {p.name: p.default for p in list(signature(draw).parameters.values())[1:]}
    missing = {name for name, default in defaults.items() if default is Parameter.empty} - controls.keys()
    unknown = controls.keys() - defaults.keys()
    if missing or unknown:
        wanted = ", ".join(defaults)
        raise ValueError(
            f"{_title(draw)} takes the values {wanted}; the controls are {', '.join(controls) or 'none'}"
        )
    return Live(
        draw, figsize, {name: _control(name, spec, defaults[name]) for name, spec in controls.items()}
    )


class Live(widgets.VBox):
    """Controls over one Image widget that is fed PNG bytes; where no kernel runs, the first picture stays
    visible.
    """

    def __init__(self, draw, figsize, controls):
        self.draw, self.figsize, self.controls = draw, figsize, controls
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", object_fit="contain")
        )
        self.trouble = widgets.HTML()
        self.picture.value = self.first = render(draw, figsize, **self.values())
        for control in controls.values():
            control.observe(self._redraw, "value")
        wrapped = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        row = widgets.Box(list(controls.values()), layout=wrapped)
        super().__init__([row, self.picture, self.trouble])

    def values(self):
        """-> dict: what the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _change):
        try:
            self.picture.value, self.trouble.value = render(self.draw, self.figsize, **self.values()), ""
        except Exception as error:  # a traceback in a callback goes to the log, where no reader looks
            self.trouble.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        png = base64.b64encode(self.first).decode()
        return data | {"image/png": png, "text/plain": f"live: {_title(self.draw)}"}, metadata


class MatrixEditor(widgets.VBox):
    """A small matrix of number boxes under a menu of presets; `value` is a tuple of row tuples."""

    value = traitlets.Tuple()

    def __init__(self, presets, *, description=""):
        first = next(iter(presets.values()))
        self.menu = widgets.Dropdown(options=[*presets, "my own"], description=description)
        narrow = widgets.Layout(width="72px")
        self.boxes = [[widgets.FloatText(number, step=0.5, layout=narrow) for number in row] for row in first]
        self.presets, self.filling, self.value = presets, False, self._read()
        self.menu.observe(self._choose, "value")
        for box in chain(*self.boxes):
            box.observe(self._type, "value")
        under_menu = widgets.Layout(margin="0 0 0 88px")  # as wide as the menu's description
        super().__init__([self.menu, *(widgets.HBox(row, layout=under_menu) for row in self.boxes)])

    def _read(self):
        return tuple(tuple(box.value for box in row) for row in self.boxes)

    def _choose(self, change):
        """A preset fills all boxes, and counts as one change."""
        if change.new in self.presets:
            self.filling = True
            for box, number in zip(chain(*self.boxes), chain(*self.presets[change.new]), strict=True):
                box.value = number
            self.filling = False
            self.value = self._read()

    def _type(self, _change):
        """A number typed by hand."""
        if not self.filling:
            self.value = self._read()
            self.menu.value = "my own"


def render(draw, figsize=(7.0, 3.0), **values):
    """draw, inches, its values -> bytes: the PNG of draw(figure, **values) on a fresh figure in the house
    style.
    """
    with plot.style():
        figure = Figure(figsize=figsize, dpi=100, layout="constrained")
        draw(figure, **values)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(
            buffer, pil_kwargs={"compress_level": 1}
        )  # near browser: speed before size
    return buffer.getvalue()


def _title(draw):
    draw = getattr(draw, "func", draw)  # what a functools.partial holds
    return getattr(draw, "__name__", type(draw).__name__)


def _control(name, spec, default):
    """One of ipywidgets' abbreviations, or a widget -> widget, described by the value's name."""
    if isinstance(spec, widgets.Widget) and spec.has_trait("value"):
        return spec
    control = widgets.interactive.widget_from_abbrev(spec, default)
    if not isinstance(control, widgets.Widget):
        raise ValueError(
            f"the control {name}={spec!r} is none of ipywidgets' abbreviations, nor a widget with a value"
        )
    if default is not Parameter.empty and control.value != default:
        raise ValueError(
            f"the control {name}={spec!r} starts at {control.value!r}, not at the default {default!r}"
        )
    control.description = control.description or name.replace("_", " ")
    return control
