"""What is written twice agrees: README, CI, workflow, conda environment, pins. And no file tells of one
machine.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# The README's commands on Linux and macOS that begin with an empty machine: to run, to test.
COMMANDS = [line for line in read("README.md").splitlines() if line.startswith("python3 -m venv .venv &&")]
RUN, TEST = COMMANDS
PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *EXTRAS["pretrained"], *EXTRAS["frameworks"], *EXTRAS["test"])
    if not line.startswith("vlmbook[")
]


# --- commands -----------------------------------------------------------------------------------------------


def test_the_readme_gives_the_two_commands_each_on_one_line():
    assert RUN.endswith(" && .venv/bin/vlmbook run ch03a") and TEST.endswith(" && .venv/bin/pytest")
    assert all("pip install -c constraints.txt -e " in command for command in (RUN, TEST))
    assert ".[pretrained]" in RUN and ".[test]" in TEST
    assert "vlmbook[pretrained]" in EXTRAS["test"]  # a green run is one with the weights
    assert "vlmbook[frameworks]" in EXTRAS["test"]  # and with TensorFlow and Keras


def on_windows(command):
    """str -> list of str: its steps in Windows' spelling, but the first (what Python is called there
    varies).
    """
    return command.replace(".venv/bin/", ".venv\\Scripts\\").split(" && ")[1:]


@pytest.mark.parametrize("step", [*on_windows(RUN), *on_windows(TEST)])
def test_the_windows_spelling_stands_beside_them(step):
    assert step in read("README.md")


def test_ci_runs_the_test_command_word_for_word():
    assert [line for line in read(".ci/run").splitlines() if line.strip() == TEST]


def every_string(node):
    """YAML -> all the strings in it."""
    if isinstance(node, dict):
        return [text for item in node.items() for part in item for text in every_string(part)]
    if isinstance(node, list):
        return [text for part in node for text in every_string(part)]
    return [node] if isinstance(node, str) else []


def test_the_workflow_runs_the_same_on_linux_macos_and_windows():
    strings = every_string(yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"])
    for system in ("ubuntu", "macos", "windows"):
        assert any(text.startswith(f"{system}-") for text in strings), system
    lines = [line.strip() for text in strings for line in text.splitlines()]
    assert TEST in lines
    for step in on_windows(TEST):
        assert any(step in line for line in lines), step


# --- dependencies -------------------------------------------------------------------------------------------


def pins():
    """constraints.txt -> dict of name to exact version."""
    lines = [line.partition("#")[0].strip() for line in read("constraints.txt").splitlines()]
    found = [Requirement(line) for line in lines if line]
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in found), "a line is no exact pin"
    names = [canonicalize_name(pin.name) for pin in found]
    assert len(set(zip(names, (str(pin.marker) for pin in found), strict=True))) == len(found), (
        "a name is pinned twice"
    )
    return {name: str(pin.specifier).removeprefix("==") for name, pin in zip(names, found, strict=True)}


@pytest.mark.parametrize("required", REQUIRED, ids=lambda required: required.name)
def test_each_dependency_is_pinned_within_its_range(required):
    version = pins().get(canonicalize_name(required.name))
    assert version, f"constraints.txt does not pin {required.name}"
    assert required.specifier.contains(version, prereleases=True), f"{version} is not {required.specifier}"


def test_each_dependency_stands_once_and_has_a_range():
    names = [canonicalize_name(required.name) for required in REQUIRED]
    assert len(set(names)) == len(names)
    assert all(required.specifier for required in REQUIRED)


def conda():
    """environment.yml -> (lines of conda packages, lines for pip)."""
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    [pip] = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], pip


def test_the_conda_environment_installs_the_project_at_the_tested_versions():
    packages, pip = conda()
    assert "-c constraints.txt" in pip
    assert [line for line in pip if re.fullmatch(r"-e \.\[pretrained\]", line)]
    assert "pip" in [re.match(r"[\w-]+", line)[0] for line in packages]


def test_the_conda_environment_asks_for_the_same_python():
    [python] = [line for line in conda()[0] if re.match(r"python\b", line)]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


def test_the_conda_environment_repeats_no_dependency():
    packages, pip = conda()
    named = [canonicalize_name(re.match(r"[\w.-]+", line)[0]) for line in (*packages, *pip) if line[0] != "-"]
    assert len(set(named)) == len(named)
    assert not set(named) & {canonicalize_name(required.name) for required in REQUIRED}


# --- what the files say of the world ------------------------------------------------------------------------


def test_the_license_is_apache_2():
    assert PROJECT["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", read("LICENSE"))


# Put together, so that this file is no hit: hosts of package registries, and folders of a machine this was
# made on.
HOSTS = re.compile(
    "|".join(
        re.escape(f"{name}.{top}")
        for name, top in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("anaconda", "org"),
            ("anaconda", "com"),
            ("debian", "org"),
            ("download.pytorch", "org"),
            ("proxy.golang", "org"),
        ]
    )
)
FOLDERS = re.compile(r"(?<![\w.~/:-])/(?:work|root|home/[a-z]\w*)(?![\w-])")
OPTIONS = re.compile(r"--(?:extra-)?(?:index|registry)[-_]?(?:url)?[= ]")


def faults(text):
    return [found[0] for pattern in (HOSTS, FOLDERS, OPTIONS) for found in pattern.finditer(text)]


def project_files():
    """The files that are in git or would be added: those of readable text."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            yield name, data.decode("utf-8")


def test_no_file_names_a_registry_or_a_folder_of_one_machine():
    assert {name: found for name, text in project_files() if (found := faults(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "https://py" + "pi.org/simple",
        "files.python" + "hosted.org",
        "registry.npm" + "js.org",
        "deb.deb" + "ian.org",
        "cd /wo" + "rk/main",
        "(/ro" + "ot)",
        "in /ho" + "me/ann/x.py",
        "pip --index-" + "url x",
    ],
)
def test_a_planted_one_is_found(text):
    assert faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "the network/work/x",
        "vlmbook-work/",
        "~/work",
        "https://example.org/work",
        "/working",
        "/roots",
        "at /home",
    ],
)
def test_words_like_them_are_left_in_peace(text):
    assert not faults(text)


def test_git_keeps_line_ends_as_they_are():
    """A chapter's text is compared byte for byte with its notebook, on Windows too."""
    attribute = subprocess.run(
        ["git", "check-attr", "eol", "notebooks/text/any.py"], cwd=ROOT, capture_output=True, text=True
    )
    if attribute.returncode:
        pytest.skip("this is no git checkout")
    assert attribute.stdout.strip().endswith("eol: lf"), ".gitattributes wants the line `* text=auto eol=lf`"
