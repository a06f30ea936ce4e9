"""TCP ports of this machine: takes them, and says who holds one that is taken."""

from __future__ import annotations

import socket
from typing import Final

import psutil

from runyard_server.domain.addresses import PORT_MAX, Address
from runyard_server.domain.errors import StartRefused

NEIGHBOUR_PORTS: Final = 32
"""How many ports after a taken default one are tried before any free one is taken."""
_BACKLOG: Final = 512
_COMMAND_LENGTH_MAX: Final = 160


class PortTaken(StartRefused):
    """Another process listens there."""


def listen(address: Address) -> socket.socket:
    """Returns a listening socket of its own at `address`; raises PortTaken naming the holder."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise port_taken(address, str(error)) from error
    return bound


def socket_address(bound: socket.socket) -> Address:
    """Returns where the socket listens."""
    name = bound.getsockname()
    return Address(str(name[0]), int(name[1]))


def candidates(address: Address, *, is_explicit: bool) -> list[Address]:
    """Returns the addresses to try in turn: only the one that was asked for, or a default one, its neighbours and any."""
    if is_explicit or address.port == 0:
        return [address]
    last = min(address.port + NEIGHBOUR_PORTS, PORT_MAX)
    ports = [*range(address.port, last + 1), 0]
    return [Address(address.host, port) for port in ports]


def port_taken(address: Address, said: str) -> PortTaken:
    """Returns the error for an address that cannot be bound, naming the process that holds it."""
    holder = describe_holder(address.port)
    return PortTaken(
        f"cannot listen on {address}: {holder or said}; stop it or choose another port (0 takes any free one)"
    )


def describe_holder(port: int) -> str:
    """Returns who listens on the port ("held by pid 12, started as: ..."), or empty text if nobody does or it is hidden."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return ""
    for connection in connections:
        where = connection.laddr
        if connection.status != psutil.CONN_LISTEN or not where or where.port != port:
            continue
        if connection.pid is None:
            return "held by a process of another user"
        return f"held by {describe_process(connection.pid)}"
    return ""


def describe_process(pid: int) -> str:
    """Returns a process in words: its pid and how it was started."""
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except (psutil.Error, OSError):
        command = ""
    return f"pid {pid}" + (f", started as: {command[:_COMMAND_LENGTH_MAX]}" if command else "")
