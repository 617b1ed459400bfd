"""A gallery: who is in it, what its file holds, and what happens to the file when processes meet or die."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch.testing import assert_close

from tests.support.faces import small_pipeline, two_boxes
from vlmbook.face_recognition import Gallery, gallery_file

posix = pytest.mark.skipif(os.name != "posix", reason="signals and permissions as POSIX has them")


def picture(seed, noise=0.0):
    """-> (3, 32, 40): an even image of its own for each seed, with noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 5, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(32, 40), mode="bilinear")[0]
    return (image + noise * torch.randn(image.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.gallery"


def names(folder):
    return sorted(each.name for each in folder.iterdir())


# Who is in it.


def test_enrolled_people_are_verified_and_identified():
    gallery = Gallery(small_pipeline(), threshold=0.5)
    assert gallery.names() == [] and gallery.count("Anna") == 0
    assert gallery.identify(picture(1))[0][:2] == (None, float("inf"))
    assert gallery.enroll("Anna", picture(1)) == 1
    assert gallery.enroll("Bo", [picture(2), picture(2, 0.02)]) == 2
    assert gallery.enroll("Anna", torch.stack([picture(1, 0.02), picture(1, 0.03)])) == 3
    assert gallery.names() == ["Anna", "Bo"] and gallery.count("Anna") == 3
    same, distance = gallery.verify("Bo", picture(2))
    assert same and distance < 1e-6
    assert not gallery.verify("Anna", picture(2)).same
    [found] = gallery.identify(picture(1, 0.01))
    assert found.name == "Anna" and 0 < found.distance < 0.5
    assert_close(found.box, torch.tensor([10.0, 8, 30, 24]))
    gallery.threshold = 0.0
    assert gallery.identify(picture(1, 0.01))[0].name is None
    assert gallery.remove("Anna") == 3
    assert gallery.names() == ["Bo"]
    assert gallery.identify(picture(1))[0].name is None


def test_each_face_of_an_image_gets_its_own_name():
    pipeline = small_pipeline(detect=two_boxes)
    gallery = Gallery(pipeline)
    pair = torch.cat([picture(1), picture(2)], dim=2)
    for name, embedding in zip(("Anna", "Bo"), pipeline(pair).embeddings, strict=True):
        gallery.enroll_embeddings(name, embedding[None])
    assert [face.name for face in gallery.identify(pair)] == ["Anna", "Bo"]
    assert [face.name for face in gallery.identify(pair.flip(2).flip(2))] == ["Anna", "Bo"]


def test_an_image_with_no_face_or_two_enrolls_nobody(path):
    gallery = Gallery(small_pipeline(), path)
    with pytest.raises(ValueError, match="image 2 wants exactly one face, got none"):
        gallery.enroll("Anna", [picture(1), torch.zeros(3, 32, 40)])
    assert gallery.names() == [] and not path.exists()
    with pytest.raises(ValueError, match="image 1 wants exactly one face, got 2"):
        Gallery(small_pipeline(detect=two_boxes), path).enroll("Anna", picture(1))
    gallery.enroll("Anna", picture(1))
    with pytest.raises(ValueError, match="image wants exactly one face, got none"):
        gallery.verify("Anna", torch.zeros(3, 32, 40))
    assert gallery.identify(torch.zeros(3, 32, 40)) == []


def test_a_stranger_s_name_is_refused():
    gallery = Gallery(small_pipeline())
    for call in (lambda: gallery.remove("Anna"), lambda: gallery.verify("Anna", picture(1))):
        with pytest.raises(ValueError, match="name wants an enrolled person, got 'Anna'"):
            call()


def test_a_name_has_one_spelling():
    gallery = Gallery(small_pipeline())
    gallery.enroll("  Zoé ", picture(1))
    assert gallery.names() == ["Zoé"] and gallery.count("Zoe\u0301") == 1
    gallery.enroll("王小明", picture(2))
    assert gallery.names() == ["Zoé", "王小明"]
    for bad in ("", "   ", "a\nb", "\x1b[2J", "a" * 201, "\ud800"):
        with pytest.raises(ValueError, match="name wants 1 to 200 characters that can be printed"):
            gallery.enroll(bad, picture(1))


@pytest.mark.parametrize(("people", "each", "k"), [(1, 1, 1), (3, 2, 5), (300, 2, 3), (2000, 1, 1)])
def test_the_search_is_exact(people, each, k):
    generator = np.random.default_rng(0)
    rows = 100 + 1e-3 * generator.standard_normal((people * each, 16))  # far from 0: a product would round
    rows = rows.astype(np.float32)
    gallery = Gallery(small_pipeline())
    for person in range(people):
        gallery.enroll_embeddings(f"p{person}", torch.from_numpy(rows[each * person : each * (person + 1)]))
    queries = torch.from_numpy((100 + 1e-3 * generator.standard_normal((5, 16))).astype(np.float32))
    for query, found in zip(queries.double().numpy(), gallery.search(queries, k), strict=True):
        distances = np.sqrt(((rows.astype(np.float64) - query) ** 2).sum(1)).reshape(people, each).min(1)
        order = distances.argsort()[:k]
        assert [name for name, _ in found] == [f"p{person}" for person in order]
        assert np.allclose([distance for _, distance in found], distances[order])


# The file.


def test_a_gallery_is_there_again(path):
    Gallery(small_pipeline(), path).enroll("Anna", picture(1))
    again = Gallery(small_pipeline(), path)
    assert again.names() == ["Anna"] and again.verify("Anna", picture(1)).distance < 1e-6
    assert names(path.parent) == ["people.gallery"]
    again.remove("Anna")
    assert Gallery(small_pipeline(), path).names() == []


@posix
def test_only_the_owner_can_read_it(path):
    before = os.umask(0o022)
    try:
        Gallery(small_pipeline(), path).enroll("Anna", picture(1))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_holds_names_and_embeddings_and_no_image(path):
    image = picture(1)
    gallery = Gallery(small_pipeline(), path)
    gallery.enroll("Anna", image)
    small = path.stat().st_size
    gallery.enroll("Anna", torch.nn.functional.interpolate(image[None], scale_factor=20)[0])
    assert path.stat().st_size == small + 8 * 4  # one embedding more, however large the image
    stored = gallery_file.read(path, gallery.pipeline.digest)[0]
    assert list(stored) == ["Anna"] and stored["Anna"].shape == (2, 8)


def test_a_removed_person_leaves_no_trace(path):
    gallery = Gallery(small_pipeline(), path)
    gallery.enroll("Anna", picture(1))
    without = path.read_bytes()
    gallery.enroll("Bo Removed", picture(2))
    row = gallery_file.read(path, gallery.pipeline.digest)[0]["Bo Removed"].tobytes()
    assert row in path.read_bytes()
    left = path.with_name(f".people.gallery.{'0' * 16}.partial")  # of a writer that was killed
    left.write_bytes(path.read_bytes())
    gallery.remove("Bo Removed")
    assert path.read_bytes() == without
    assert names(path.parent) == ["people.gallery"]
    assert row not in without and b"Bo Removed" not in without


def test_another_file_s_partial_is_left_alone(path):
    other = path.with_name(f".people.gallery.old.{'0' * 16}.partial")
    other.write_bytes(b"")
    gallery = Gallery(small_pipeline(), path)
    gallery.enroll("Anna", picture(1))
    assert other.exists()


def test_a_change_of_another_one_is_seen(path):
    one, two = Gallery(small_pipeline(), path), Gallery(small_pipeline(), path)
    one.enroll("Anna", picture(1))
    assert two.names() == ["Anna"]
    two.enroll("Bo", picture(2))
    assert one.identify(picture(2))[0].name == "Bo"
    two.remove("Anna")
    assert one.count("Anna") == 0 and one.identify(picture(1))[0].name is None
    path.unlink()
    assert one.names() == []


def test_every_damaged_file_is_refused(path):
    gallery = Gallery(small_pipeline(), path)
    gallery.enroll("Anna", [picture(1), picture(2)])
    gallery.enroll("Bo", picture(3))
    whole, known = path.read_bytes(), gallery_file.read(path, gallery.pipeline.digest)[0]
    generator = np.random.default_rng(0)
    refused = 0
    damaged = [whole[:length] for length in generator.choice(len(whole), 60, replace=False)]
    for place in generator.choice(len(whole), 240, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << generator.integers(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            read = gallery_file.read(path, gallery.pipeline.digest)[0]
        except ValueError as error:
            assert re.search("is no gallery of faces, or it is damaged", str(error))
            refused += 1
        else:  # a blank of the header, say: nothing that counts is another
            assert list(read) == list(known)
            for name, rows in known.items():
                assert read[name].tobytes() == rows.tobytes()
    assert refused > 280


def test_a_foreign_file_is_refused_and_stays(path, tmp_path):
    foreign = {
        "empty": b"",
        "text": "一张照片".encode(),
        "pickle": pickle.dumps({"a": 1}),
        "weights": safetensors.numpy.save({"embeddings": np.ones((2, 3), np.float32)}),
    }
    for name, content in foreign.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no gallery of faces, or it is damaged"):
            Gallery(small_pipeline(), path)
        assert path.read_bytes() == content, name
    path.unlink()
    gallery = Gallery(small_pipeline(), path)
    path.write_bytes(b"text")  # it comes while the gallery is open
    for call in (lambda: gallery.enroll("Anna", picture(1)), gallery.names):
        with pytest.raises(ValueError, match="is no gallery of faces"):
            call()
    assert path.read_bytes() == b"text"
    with pytest.raises(OSError, match="cannot be read: Is a directory"):
        Gallery(small_pipeline(), tmp_path)


@posix
def test_a_device_is_refused():
    with pytest.raises(ValueError, match="path wants a file, got the device '/dev/zero'"):
        Gallery(small_pipeline(), "/dev/zero")


def test_a_gallery_of_another_network_is_refused(path):
    Gallery(small_pipeline(seed=0), path).enroll("Anna", picture(1))
    content = path.read_bytes()
    with pytest.raises(ValueError, match="holds embeddings of another network"):
        Gallery(small_pipeline(seed=1), path)
    assert path.read_bytes() == content


def test_a_forged_file_is_refused(path):
    """Whoever knows the format can compute the checksum; what does not fit together is refused."""
    for people in (
        {"a\nb": np.ones((1, 3), np.float32)},
        {"a": np.full((1, 3), np.nan, np.float32)},
        {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 4), np.float32)},
        {"a": np.ones((0, 3), np.float32)},
    ):
        with pytest.raises((TypeError, ValueError)):
            gallery_file.pack(people, "abc")


# Processes.

WRITER = """
import sys, torch
from tests.support.faces import small_pipeline
from vlmbook.face_recognition import Gallery
name, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
gallery = Gallery(small_pipeline(), path)
print("ready", flush=True)
for number in range(count):
    gallery.enroll_embeddings(f"{name}{number}", torch.full((1, 8), float(number + 1)))
"""


def start_writer(name, path, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(path), str(count)], stdout=subprocess.PIPE
    )


@pytest.mark.slow
def test_two_processes_do_not_lose_each_other_s_people(path):
    writers = [start_writer(name, path, 12) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdout.close()
    expected = sorted(f"{name}{number}" for name in "ab" for number in range(12))
    assert Gallery(small_pipeline(), path).names() == expected
    assert names(path.parent) == ["people.gallery"]


FORKED = """
import os, signal, sys, time
import numpy as np
import torch
from tests.support.faces import small_pipeline
from vlmbook.face_recognition import Gallery
path, folder = sys.argv[1:]
gallery = Gallery(small_pipeline(), path)
width = 60_000                     # so that a file takes some milliseconds to write
gallery.enroll_embeddings("p0", torch.zeros(1, width))
random = np.random.default_rng(0)
for kill in range(30):
    child = os.fork()
    if child == 0:
        number = len(gallery.names())
        while True:
            gallery.enroll_embeddings(f"p{number}", torch.full((1, width), float(number)))
            number += 1
    time.sleep(0.02 + 0.1 * random.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    people = Gallery(small_pipeline(), path)
    found = people.names()
    assert len(found) >= 1 and sorted(found) == sorted(f"p{n}" for n in range(len(found))), found
    assert all((people._people[f"p{n}"] == n).all() for n in range(len(found)))
    if len(found) > 20:
        os.unlink(path)
        gallery.enroll_embeddings("p0", torch.zeros(1, width))
gallery.enroll_embeddings("last", torch.zeros(1, width))
assert os.listdir(folder) == ["people.gallery"], os.listdir(folder)
print("survived", len(found))
"""


@posix
@pytest.mark.slow
def test_thirty_writers_are_killed_and_the_file_is_the_old_or_the_new(path):
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(path), str(path.parent)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.stdout.startswith("survived"), run.stderr
