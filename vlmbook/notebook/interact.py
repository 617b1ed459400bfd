"""Live figures: a pure drawing function, its controls, and a picture that also shows where no kernel runs."""

import base64
import html
import io
from collections.abc import Callable
from inspect import Parameter, signature
from itertools import chain
from typing import Any

import ipywidgets as widgets
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vlmbook import plot
from vlmbook.validation import describe, require_callable, require_number, require_type

MY_OWN = "my own"  # in the menu of presets
INCHES = 100.0  # no figure is wider or higher


def live(draw: Callable, *, figsize: tuple[float, float] = (7.0, 3.0), **controls: Any) -> "Live":
    """draw(figure, **values), a control for each value -> Live: shown in a notebook, it redraws when a
    control moves.

    A control is one of ipywidgets' abbreviations ((1, 9) a slider, [a, b] or {"name": a} a menu, True a box),
    which starts at draw's default for that name, or a widget. `figsize` is in inches at 100 dots an inch.
    Raises ValueError where controls and draw's parameters differ, and whatever draw raises for the first
    values.
    """
    return Live(draw, figsize, controls)


class Live(widgets.VBox):
    """Controls over one Image widget that is fed PNG bytes; where no kernel runs, the first picture stays
    visible.
    """

    def __init__(self, draw: Callable, figsize: tuple[float, float], controls: dict[str, Any]):
        self.draw = draw
        self.figsize = _as_figsize(figsize)
        self.controls = _make_controls(draw, controls)
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", object_fit="contain")
        )
        self.trouble = widgets.HTML()
        self.first = render(draw, figsize, **self.values())
        self.picture.value = self.first
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        wrapped = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        row = widgets.Box(list(self.controls.values()), layout=wrapped)
        super().__init__([row, self.picture, self.trouble])

    def values(self) -> dict[str, Any]:
        """-> dict: the value of each control now."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _change):
        try:
            self.picture.value = render(self.draw, self.figsize, **self.values())
            self.trouble.value = ""
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

    def __init__(self, presets: dict[str, Any], *, description: str = ""):
        self.presets = _as_presets(presets)
        require_type(description, "description", str, "text")
        first = next(iter(self.presets.values()))
        self.menu = widgets.Dropdown(options=[*self.presets, MY_OWN], description=description)
        narrow = widgets.Layout(width="72px")
        self.boxes = [[widgets.FloatText(number, step=0.5, layout=narrow) for number in row] for row in first]
        self.filling = False
        self.value = self._read()
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
            self.menu.value = MY_OWN


def render(draw: Callable, figsize: tuple[float, float] = (7.0, 3.0), **values: Any) -> bytes:
    """draw, its values -> PNG bytes of draw(figure, **values) on a fresh figure in the house style, `figsize`
    inches at 100 dots an inch.
    """
    require_callable(draw, "draw", "a function of a figure and values")
    with plot.style():
        figure = Figure(figsize=_as_figsize(figsize), dpi=100, layout="constrained")
        draw(figure, **values)
        png = io.BytesIO()
        fast = {"compress_level": 1}  # the browser is near: speed before size
        FigureCanvasAgg(figure).print_png(png, pil_kwargs=fast)
    return png.getvalue()


# --- what they are given ------------------------------------------------------------------------------------


def _as_figsize(figsize):
    """-> (width, height) in inches."""
    if not isinstance(figsize, (tuple, list)) or len(figsize) != 2:
        raise TypeError(f"figsize wants width and height in inches, got {describe(figsize)}")
    width, height = figsize
    return (
        require_number(width, "figsize", least=0.1, most=INCHES),
        require_number(height, "figsize", least=0.1, most=INCHES),
    )


def _as_presets(presets):
    """-> dict: name -> matrix, a tuple of rows of numbers; all of one shape."""
    require_type(presets, "presets", dict, "a dict of matrices by name")
    found = {}
    for name, matrix in presets.items():
        if not isinstance(name, str) or name == MY_OWN:
            raise TypeError(f"presets wants names other than {MY_OWN!r}, got {describe(name)}")
        try:
            rows = tuple(tuple(row) for row in matrix)
        except TypeError:
            raise TypeError(f"presets wants rows of numbers, got {describe(matrix)}") from None
        found[name] = tuple(tuple(_as_entry(number) for number in row) for row in rows)
    shapes = {tuple(len(row) for row in matrix) for matrix in found.values()}
    if len(shapes) != 1 or not all(chain(*shapes)):
        raise ValueError(f"presets wants matrices of one shape, got {len(shapes)} shapes")
    return found


def _as_entry(number):
    """-> the number as it came, so that a preset stays equal to itself."""
    require_number(number, "presets")
    return number


def _make_controls(draw, controls):
    """-> dict: a widget for each value of draw that has a control."""
    require_callable(draw, "draw", "a function of a figure and values")
    require_type(controls, "controls", dict, "a control for each value, by name")
    try:
        parameters = list(signature(draw).parameters.values())[1:]
    except (TypeError, ValueError):
        raise TypeError(f"draw wants a function whose parameters can be read, got {describe(draw)}") from None
    defaults = {parameter.name: parameter.default for parameter in parameters}
    required = {name for name, default in defaults.items() if default is Parameter.empty}
    if required - controls.keys() or controls.keys() - defaults.keys():
        wanted = ", ".join(defaults)
        given = ", ".join(map(str, controls)) or "none"
        raise ValueError(f"{_title(draw)} takes the values {wanted}; the controls are {given}")
    return {name: _make_control(name, spec, defaults[name]) for name, spec in controls.items()}


def _make_control(name, spec, default):
    """One of ipywidgets' abbreviations, or a widget -> widget, described by the value's name."""
    if isinstance(spec, widgets.Widget) and spec.has_trait("value"):
        return spec
    try:
        control = widgets.interactive.widget_from_abbrev(spec, default)
    except Exception:  # whatever a foreign object does when it is compared
        control = None
    if not isinstance(control, widgets.Widget):
        raise ValueError(
            f"the control {name}={_shown(spec)} is none of ipywidgets' abbreviations, nor a widget with a "
            "value"
        )
    if default is not Parameter.empty and not _is_equal(control.value, default):
        raise ValueError(
            f"the control {name}={_shown(spec)} starts at {_shown(control.value)}, not at the default "
            f"{_shown(default)}"
        )
    control.description = control.description or name.replace("_", " ")
    return control


def _is_equal(value, default):
    """-> bool, False where the two cannot be compared, as tensors cannot."""
    try:
        return bool(value == default)
    except Exception:
        return False


def _shown(spec):
    """A control as it was written, where that is short and safe; what it is otherwise."""
    try:
        text = repr(spec)
    except Exception:
        return describe(spec)
    return text if len(text) <= 100 and "\n" not in text else describe(spec)


def _title(draw):
    inner = getattr(draw, "func", draw)  # what a functools.partial holds
    return getattr(inner, "__name__", type(inner).__name__)
