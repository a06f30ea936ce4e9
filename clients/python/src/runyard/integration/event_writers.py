"""Notices the writers of event files that this process makes: those of torch, tensorboardX and TensorFlow."""

from __future__ import annotations

import functools
import os
import weakref
from types import ModuleType
from typing import Any, Callable

from runyard.integration.import_hook import after_import

OnWriter = Callable[[str], None]
"""Called with the folder of a writer that is about to be made, before there is a file of it."""

_listeners: list[OnWriter] = []
_writers: weakref.WeakSet[Any] = weakref.WeakSet()
_is_installed = False


def listen(call: OnWriter) -> None:
    """Has `call` called for each writer from now on."""
    global _is_installed
    _listeners.append(call)
    if not _is_installed:
        _is_installed = True
        for name in (
            "tensorboard.summary.writer.event_file_writer",  # torch.utils.tensorboard, tensorboard.summary
            "tensorboardX.event_file_writer",
            "tensorflow.python.summary.writer.event_file_writer",  # TensorFlow 1
        ):
            after_import(name, _watch_file_writer)
        after_import("tensorflow.python.ops.summary_ops_v2", _watch_resource_writer)


def forget(call: OnWriter) -> None:
    """Undoes `listen`."""
    if call in _listeners:
        _listeners.remove(call)


def flush() -> None:
    """Has all writers write out what they hold back, which may be two minutes' worth."""
    for writer in list(_writers):
        try:
            writer.flush()
        except Exception:  # it is closed, or has a problem of its own, which its owner is told of
            _writers.discard(writer)


def _watch_file_writer(module: ModuleType) -> None:
    kind = getattr(module, "EventFileWriter", None)
    if kind is not None:
        _wrap_init(kind, lambda arguments, named: arguments[0] if arguments else named["logdir"])


def _watch_resource_writer(module: ModuleType) -> None:
    kind = getattr(module, "_ResourceSummaryWriter", None)
    if kind is not None:
        _wrap_init(kind, _folder_of_partial)


def _folder_of_partial(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Returns the folder out of the function that TensorFlow makes its writer with."""
    create = arguments[1] if len(arguments) > 1 else named["init_op_fn"]
    folder = create.keywords["logdir"]
    return folder.numpy() if hasattr(folder, "numpy") else folder


def _wrap_init(kind: Any, folder_of: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
    original = kind.__init__

    @functools.wraps(original)
    def __init__(self: Any, *arguments: Any, **named: Any) -> None:
        try:
            folder = os.fsdecode(folder_of(arguments, named))
        except (AttributeError, KeyError, TypeError):
            folder = ""  # of a version that makes its writers in another way
        if folder:
            for call in list(_listeners):
                call(folder)
        original(self, *arguments, **named)
        _writers.add(self)

    kind.__init__ = __init__
