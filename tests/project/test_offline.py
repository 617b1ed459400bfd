"""The guard holds wherever a test's code runs: in this process, one that it starts, a notebook's kernel."""

import os
import socket
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import matplotlib
import nbformat
import pytest
from nbclient import NotebookClient

REFUSED = "vlmbook tests run offline"
OUTSIDE = "192.0.2.1"  # reserved for documentation (RFC 5737), as example.org is: nobody answers there

TRIES = f"""
import socket
def outcome(host):
    try:
        socket.create_connection((host, 80), timeout=1)
    except OSError as error:
        return str(error)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5).close()
print(outcome("{OUTSIDE}"), outcome("example.org"), "loopback works", sep="|")
"""


def in_subprocess():
    return subprocess.run([sys.executable, "-c", TRIES], capture_output=True, text=True, check=True).stdout


def in_kernel():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRIES)])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    return notebook.cells[0].outputs[0].text


@pytest.mark.parametrize("run", [in_subprocess, in_kernel])
def test_other_processes_reach_loopback_and_nothing_else(run):
    address, name, loopback = run().strip().split("|")
    assert address == f"{REFUSED}: {OUTSIDE} is not this machine"
    assert name == f"{REFUSED}: example.org is not this machine"
    assert loopback == "loopback works"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s: s.connect((OUTSIDE, 80)),
        lambda s: s.connect_ex((OUTSIDE, 80)),
        lambda s: s.sendto(b"x", (OUTSIDE, 80)),
        lambda s: s.sendto(b"x", 0, (OUTSIDE, 80)),
        pytest.param(
            lambda s: s.sendmsg([b"x"], [], 0, (OUTSIDE, 80)),
            marks=pytest.mark.skipif(not hasattr(socket.socket, "sendmsg"), reason="no sendmsg here"),
        ),
    ],
)
def test_a_socket_here_reaches_nothing_outside(attempt):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(OSError, match=REFUSED):
        attempt(udp)


def audit(host):
    """What Python says when an IPv6 socket connects, which a machine without IPv6 can say too."""
    sys.audit("socket.connect", SimpleNamespace(family=socket.AF_INET6), (host, 80, 0, 0))


def test_nor_over_ipv6():
    for outside in ("2001:db8::1", "::ffff:192.0.2.1", "fe80::1%2"):
        with pytest.raises(OSError, match=REFUSED):
            audit(outside)
    for here in ("::1", "::", "::ffff:127.0.0.1"):
        audit(here)


@pytest.mark.parametrize(
    "resolve",
    [
        lambda host: socket.getaddrinfo(host, 80),
        socket.gethostbyname,
        socket.gethostbyname_ex,
    ],
)
def test_no_name_is_looked_up_outside(resolve):
    with pytest.raises(OSError, match=f"{REFUSED}: example.org"):
        resolve("example.org")
    assert resolve("localhost")
    assert resolve("127.0.0.1")


def test_a_download_says_why_it_fails():
    with pytest.raises(OSError, match=REFUSED):
        urllib.request.urlopen("http://example.org/", timeout=1)


def test_loopback_and_unix_sockets_stay_open(tmp_path):
    with socket.create_server(("localhost", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        assert udp.sendto(b"x", udp.getsockname()) == 1
    if hasattr(socket, "AF_UNIX"):
        path = os.path.relpath(tmp_path / "s")  # a unix socket's name holds about 100 bytes
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(path)
            server.listen()
            client.connect(path)


def test_runs_leave_the_tree_alone_and_share_the_cores():
    assert "vlmbook-tests-" in os.environ["VLMBOOK_OUTPUT"]
    assert "VLMBOOK_PROFILE" not in os.environ
    assert "MPLBACKEND" not in os.environ  # or a notebook's kernel would draw nothing inline
    assert os.environ["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert dict.__getitem__(matplotlib.rcParams, "backend") == "agg"  # set, not found for want of a display
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert int(os.environ["OMP_NUM_THREADS"]) >= 1
