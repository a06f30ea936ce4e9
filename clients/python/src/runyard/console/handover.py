"""Hands on where a taken stream really goes, so that a child with a run of its own prints past its parent's keeper.

A child inherits the descriptors that its parent's capture put there. When it takes them for a run of its own, its keeper
asks the keeper that reads them for the descriptor behind, and writes there: each line is shown once, and kept in one
run. Asked is by the identity of the pipe or terminal, so it needs no environment, and finds what was forked, spawned
or started as a program of its own. The names of such sockets are Linux's (abstract); elsewhere nobody is found.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

ASK_TIMEOUT_S = 5.0
"""Longest wait for a keeper that is starting; one that is not there at all refuses at once."""
_PENDING_MAX = 64
_WORD = b"t"


def listen(stream: int) -> socket.socket | None:
    """Returns a socket at which the keeper of a taken stream can be asked; None where there is no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_address(stream))
        listener.listen(_PENDING_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        return None
    return listener


def answer(listener: socket.socket, target: int) -> None:
    """Gives the descriptor to whoever asks, if it is of the same user."""
    try:
        asker, _ = listener.accept()
    except OSError:  # it has gone again
        return
    with asker:
        try:
            asker.setblocking(False)
            if _is_of_same_user(asker):
                socket.send_fds(asker, [_WORD], [target])
        except OSError:
            return


def target_of(stream: int) -> int:
    """Returns a descriptor of where the stream goes in the end; itself if no keeper reads it, or none answers in time."""
    if not sys.platform.startswith("linux"):
        return stream
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        try:
            asker.settimeout(ASK_TIMEOUT_S)
            asker.connect(_address(stream))
            if not _is_of_same_user(asker):
                return stream
            word, files, _, _ = socket.recv_fds(asker, len(_WORD), 1)
        except OSError:
            return stream
    if word != _WORD or len(files) != 1:
        return stream
    os.set_inheritable(files[0], False)
    return files[0]


def _address(stream: int) -> bytes:
    status = os.fstat(stream)
    return f"\0runyard-console-{status.st_dev:x}-{status.st_ino:x}".encode()


def _is_of_same_user(peer: socket.socket) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.geteuid())
