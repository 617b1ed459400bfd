"""Chapter 6a's application: photographs are uploaded, people enrolled and verified, and a slider moves the
threshold along the ROC.
"""

import base64
import html
import tempfile
from pathlib import Path

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import nn

from vlmbook import plot
from vlmbook.chapters.ch06a.experiments import make_roc
from vlmbook.data import read_image
from vlmbook.face_recognition import FacePipeline, Gallery, Roc
from vlmbook.notebook import records
from vlmbook.notebook.interact import render

MOST_ANSWERS = 6  # that the picture shows


def make_desk(
    pipeline: FacePipeline | None, own_network: nn.Module, own_roc: Roc, photograph: torch.Tensor
) -> "FaceDesk":
    """-> FaceDesk of the pretrained pipeline, else of our own network; one person is enrolled as an example.

    The Roc of the pretrained pipeline is that of the published full run, on ORL. Without that run there is
    none. `photograph` (3, H, W) shows the person of the example.
    """
    if pipeline:
        published = (records.load("ch06a", "full") or {}).get("measurements", {}).get("roc")
        desk = FaceDesk(pipeline, make_roc(published) if published else None, threshold=0.6)
    else:
        small = nn.Sequential(nn.AdaptiveAvgPool2d(32), own_network)
        desk = FaceDesk(FacePipeline(small), own_roc, threshold=0.9)
    desk.gallery.enroll("astronaut", [photograph])
    for name, image in {"darker": 0.5 * photograph, "mirrored": photograph.flip(2)}.items():
        desk.compare("astronaut", name, image)
    return desk


class FaceDesk(widgets.VBox):
    """FacePipeline, its Roc, threshold -> widgets to enrol people from uploaded photographs, and to verify
    them. Without a Roc of this pipeline no error rate is shown.

    The gallery is kept in memory: nothing is written to a file, and no photograph is kept. The slider sets
    the threshold; the answers to all photographs that were verified follow it.
    """

    def __init__(self, pipeline: FacePipeline, roc: Roc | None, *, threshold: float = 0.6):
        self.gallery = Gallery(pipeline, threshold=threshold)
        self.roc = roc
        self.answers = []  # (name of the person, name of the file, distance)
        self.person = widgets.Text(description="name")
        self.photographs = widgets.FileUpload(accept="image/*", multiple=True, description="photographs")
        self.enroll_button = widgets.Button(description="enrol")
        self.verify_button = widgets.Button(description="verify")
        self.remove_button = widgets.Button(description="remove")
        self.slider = widgets.FloatSlider(
            threshold, min=0.2, max=1.4, step=0.01, description="threshold", continuous_update=False
        )
        self.status = widgets.HTML("Nobody is enrolled.")
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.enroll_button.on_click(lambda _: self._tell(self.enroll))
        self.verify_button.on_click(lambda _: self._tell(self.verify))
        self.remove_button.on_click(lambda _: self._tell(self.remove))
        self.slider.observe(lambda change: self.set_threshold(change.new), "value")
        self._redraw()
        buttons = [self.person, self.photographs, self.enroll_button, self.verify_button, self.remove_button]
        row = widgets.Box(buttons, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.status, self.slider, self.picture])

    # --- what the buttons do --------------------------------------------------------------------------------

    def enroll(self) -> str:
        """-> str: the uploaded photographs are enrolled under the name; what happened, in a sentence."""
        name = self.person.value.strip()
        images = [image for _, image in self._take_uploads()]
        count = self.gallery.enroll(name, images)
        return f"{name} is enrolled with {count} photograph{'s' * (count > 1)}."

    def verify(self) -> str:
        """-> str: each uploaded photograph is compared with the person of that name."""
        name = self.person.value.strip()
        sentences = []
        for file, image in self._take_uploads():
            sentences.append(self.compare(name, file, image))
        return " ".join(sentences)

    def compare(self, name: str, file: str, image: torch.Tensor) -> str:
        """(C, H, W) -> str: whether the image called `file` shows the person; the picture shows it too."""
        found = self.gallery.verify(name, image)
        self.answers = [*self.answers, (name, file, found.distance)][-MOST_ANSWERS:]
        self._redraw()
        answer = "is" if found.same else "is not"
        return f"{file} {answer} {name}: distance {found.distance:.2f}."

    def remove(self) -> str:
        """-> str: the person of that name is deleted, and the answers about this person too."""
        name = self.person.value.strip()
        self.gallery.remove(name)
        self.answers = [answer for answer in self.answers if answer[0] != name]
        return f"{name} is removed."

    def set_threshold(self, threshold: float) -> None:
        """float -> None: the gallery's threshold; the picture follows."""
        self.gallery.threshold = threshold
        self._redraw()

    # --- inside ---------------------------------------------------------------------------------------------

    def _take_uploads(self):
        """-> list of (name of the file, (C, H, W)); the uploads are forgotten. Raises ValueError without
        any.
        """
        uploads = self.photographs.value
        self.photographs.value = ()
        if not uploads:
            raise ValueError("photographs wants at least one file, got none")
        return [(upload["name"], _decode(upload)) for upload in uploads]

    def _tell(self, action):
        """What is wrong with a photograph or a name is a sentence for the reader, not a traceback."""
        try:
            sentence = action()
        except (ValueError, TypeError, OSError) as error:
            sentence = f"{error}."
        self.status.value = html.escape(sentence)
        self._redraw()

    def _redraw(self):
        values = {"roc": self.roc, "answers": tuple(self.answers), "threshold": self.gallery.threshold}
        self.picture.value = render(draw_desk, (7.0, 2.6), **values)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        png = base64.b64encode(self.picture.value).decode()
        return data | {"image/png": png, "text/plain": "face desk"}, metadata


def draw_desk(
    figure: Figure,
    roc: Roc | None,
    answers: tuple[tuple[str, str, float], ...] = (),
    threshold: float = 0.6,
) -> None:
    """Roc, (person, file, distance) of each answer: the operating point on the ROC; the distances beside the
    threshold. Without a Roc the distances alone.
    """
    if roc is None:
        _draw_answers(figure.subplots(), answers, threshold)
        return
    left, right = figure.subplots(1, 2)
    _draw_operating_point(left, roc, threshold)
    _draw_answers(right, answers, threshold)


def _draw_operating_point(left, roc, threshold):
    shown = roc.far > 0
    left.semilogx(roc.far[shown], roc.tar[shown], color=plot.GREY)
    point = int((roc.thresholds <= threshold).nonzero()[-1, 0])
    far, tar = float(roc.far[point]), float(roc.tar[point])
    left.plot(max(far, float(roc.far[shown].min())), tar, "o", color="black")
    left.set(xlabel="FAR", ylabel="TAR", ylim=(-0.02, 1.04), title=f"FAR {far:.2g}, TAR {tar:.3f}")


def _draw_answers(right, answers, threshold):
    rows = range(len(answers))
    distances = [distance for _, _, distance in answers]
    colours = [plot.BLUE if distance <= threshold else plot.ORANGE for distance in distances]
    right.barh(rows, distances, color=colours)
    right.set(yticks=rows, yticklabels=[_label(person, file) for person, file, _ in answers])
    right.axvline(threshold, color="black", linestyle="--")
    right.set(xlim=(0, 1.5), ylim=(len(answers) - 0.5 if answers else 0.5, -0.5), xlabel="distance")
    right.set_title("blue: accepted" if answers else "nothing is verified yet")


def _label(person, file):
    return f"{person[:10]}: {file[:14]}"


def _decode(upload):
    """A file of the upload widget -> (C, H, W), read as any untrusted file is, from a folder that is
    deleted.
    """
    with tempfile.TemporaryDirectory(prefix="vlmbook-") as folder:
        path = Path(folder, "photograph")
        path.write_bytes(bytes(upload["content"]))
        try:
            return read_image(path)
        except ValueError as error:
            reason = str(error).replace(str(path), upload["name"])
            raise ValueError(reason) from None
