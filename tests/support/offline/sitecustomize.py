"""No network under test: Python runs this at start in every process that has this folder on PYTHONPATH.

It reaches what a guard in the test process cannot: kernels of notebooks and processes that tests start.
Loopback and unix sockets stay open, since Jupyter talks over them. It is an audit hook, which no later
patch of `socket` undoes (pytest-socket makes one), and light, since each of those processes pays for it.
"""

import ipaddress
import socket
import sys


class Offline(OSError):
    """A connection to the outside was tried."""

    def __init__(self, host):
        super().__init__(f"vlmbook tests run offline: {host} is not this machine")


def numeric(host):
    """str -> the address that it spells, None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_here(host):
    """str -> bool: an address or a name which this machine itself answers (so do `0.0.0.0` and `::`)."""
    if address := numeric(host):
        return address.is_loopback or address.is_unspecified
    name = host.lower()
    return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(".localhost")


def connecting(sock, address):
    """By name too, though then the machine's resolver is asked first."""
    if address and sock.family in (socket.AF_INET, socket.AF_INET6) and not is_here(as_text(address[0])):
        raise Offline(as_text(address[0]))


def looking_up(host, *_):
    """A name would be asked for outside; an address in figures needs no asking."""
    if not is_here(as_text(host)) and numeric(as_text(host)) is None:
        raise Offline(as_text(host))


def as_text(host):
    return host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host or "")


GUARDS = {
    "socket.connect": connecting,  # connect_ex too
    "socket.sendto": connecting,
    "socket.sendmsg": connecting,
    "socket.getaddrinfo": looking_up,
    "socket.gethostbyname": looking_up,  # gethostbyname_ex too
}


def guard(event, args, guards=GUARDS):
    if event in guards:
        guards[event](*args)


if not hasattr(socket, "vlmbook_is_offline"):  # a worker of pytest-xdist comes here twice
    socket.vlmbook_is_offline = True
    sys.addaudithook(guard)
