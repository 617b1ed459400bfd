"""The container: Dockerfile and dev container agree with each other and with the project, without Docker."""

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from vlmbook.cli import make_parser

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEV = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
INSTRUCTIONS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME "
    "WORKDIR"
).split()


def read_dockerfile(text):
    """str -> list of (instruction, arguments): without comments, lines joined. ValueError for others."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in filter(str.strip, joined.splitlines()):
        instruction, _, rest = line.strip().partition(" ")
        if instruction not in INSTRUCTIONS:
            raise ValueError(f"{instruction} is no instruction")
        found.append((instruction, " ".join(rest.split())))
    return found


def find_faults(text):
    """str -> list of str: what is wrong with a Dockerfile, whatever it installs."""
    try:
        lines = read_dockerfile(text)
    except ValueError as fault:
        return [str(fault)]
    found = []
    names = [name for name, _ in lines]
    if next((name for name in names if name != "ARG"), "") != "FROM":
        found.append("it does not begin with FROM")
    for image in (rest for name, rest in lines if name == "FROM"):
        if ":" not in image or image.endswith(":latest"):
            found.append(f"{image} has no fixed tag")
    users = [rest for name, rest in lines if name == "USER"]
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        found.append("it runs as root")
    for name in ("CMD", "HEALTHCHECK", "WORKDIR"):
        if names.count(name) != 1:
            found.append(f"it has {names.count(name)} {name}")
    for name, rest in lines:
        command = rest.partition("CMD ")[2] if name == "HEALTHCHECK" else rest if name == "CMD" else ""
        if command:
            try:
                words = json.loads(command)
            except json.JSONDecodeError:
                words = None
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                found.append(f"{name} is no JSON list of words")
    return found


TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = read_dockerfile(TEXT)


def only(instruction):
    """-> the arguments of the instruction, which is there once."""
    [found] = [rest for name, rest in LINES if name == instruction]
    return found


def test_the_dockerfile_is_sound():
    assert find_faults(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("WORKDIR /", "WORKDR /", "WORKDR is no instruction"),
        ("USER reader", "USER root", "it runs as root"),
        ("USER reader", "", "it runs as root"),
        ("FROM python:3.11-slim-bookworm", "FROM python", "python has no fixed tag"),
        ("FROM python:3.11-slim-bookworm", "FROM python:latest", "python:latest has no fixed tag"),
        ("FROM python:3.11-slim-bookworm", "", "it does not begin with FROM"),
        ('CMD ["vlmbook"', "CMD ['vlmbook'", "CMD is no JSON list of words"),
        ('CMD ["python", ', "CMD [python, ", "HEALTHCHECK is no JSON list of words"),
        ("HEALTHCHECK", "LABEL", "it has 0 HEALTHCHECK"),
    ],
)
def test_a_fault_is_named(old, new, fault):
    assert TEXT.count(old) == 1
    assert fault in find_faults(TEXT.replace(old, new))


def test_the_image_has_the_tested_python():
    version = re.match(r"python:(\d+\.\d+)-slim", only("FROM"))[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert f"on Python {version}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]


def test_it_installs_the_checkout_at_the_tested_versions():
    [pip] = [rest for name, rest in LINES if name == "RUN" and rest.startswith("pip install")]
    words = shlex.split(pip)
    constraints, target = words[words.index("-c") + 1], words[words.index("-e") + 1]
    assert (ROOT / constraints).exists()
    path, extra = re.fullmatch(r"(.+)\[(\w+)\]", target).groups()
    assert path == "." and extra in PROJECT["optional-dependencies"]
    order = [(name, rest.split()[-2:]) for name, rest in LINES if name in ("COPY", "WORKDIR")]
    assert [name for name, _ in order] == ["WORKDIR", "COPY"] and order[1][1] == [".", "."]


def test_what_is_copied_holds_what_the_installation_reads_and_no_history():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv"} <= set(ignored)
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "vlmbook",
        "notebooks",
        "results",
    ):
        assert (ROOT / name).exists()
        assert not any(fnmatch.fnmatch(name, pattern.removeprefix("**/")) for pattern in ignored), name


def test_the_command_is_one_that_vlmbook_has():
    command, *rest = json.loads(only("CMD"))
    assert command in PROJECT["scripts"]
    split = rest.index("--")
    chosen = make_parser().parse_args(rest[:split])
    assert chosen.dir == only("VOLUME")
    assert f"--port={only('EXPOSE')}" in rest[split:] and "--ip=0.0.0.0" in rest[split:]


def test_the_health_check_asks_the_port_of_jupyterlab():
    *python, code = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    assert python == ["python", "-c"]
    compile(code, "health check", "exec")
    assert f"http://127.0.0.1:{only('EXPOSE')}/api" in code


def test_the_folders_belong_to_the_user():
    user = only("USER")
    [made] = [rest for name, rest in LINES if name == "RUN" and "useradd" in rest]
    assert made.split(" && ")[0].endswith(f" {user}") and f"--owner={user}" in made
    assert {only("WORKDIR"), only("VOLUME")} <= set(made.split())


def test_the_dev_container_is_that_of_the_dockerfile():
    folder = ROOT / ".devcontainer"
    assert (folder / DEV["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / DEV["build"]["context"]).resolve() == ROOT
    assert DEV["name"] == PROJECT["name"]
    assert DEV["remoteUser"] == only("USER")
    # The package is installed in editable form: the checkout has to be mounted where it was installed.
    assert DEV["workspaceFolder"] == only("WORKDIR")
    mount = dict(part.split("=", 1) for part in DEV["workspaceMount"].split(","))
    assert mount == {"source": "${localWorkspaceFolder}", "target": only("WORKDIR"), "type": "bind"}


def test_the_dev_container_starts_jupyterlab_on_the_forwarded_port():
    command, *rest = shlex.split(DEV["postAttachCommand"])
    split = rest.index("--")
    assert command in PROJECT["scripts"] and make_parser().parse_args(rest[:split]).dir == only("VOLUME")
    [port] = DEV["forwardPorts"]
    assert str(port) == only("EXPOSE") and f"--port={port}" in rest[split:]
    assert set(DEV["portsAttributes"]) == {str(port)}
