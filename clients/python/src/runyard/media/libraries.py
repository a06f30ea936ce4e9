"""Loads what a user's value needs and nothing before, and turns arrays of any library into NumPy's."""

from __future__ import annotations

import importlib
from typing import Any

from runyard.errors import InvalidArgument, UsageError


def load(module: str, *, extra: str, what: str) -> Any:
    """Returns the module; raises UsageError that names the extra to install where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"PIL": "Pillow", "imageio_ffmpeg": "imageio-ffmpeg"}.get(
            module.partition(".")[0], module.partition(".")[0]
        )
        raise UsageError(
            f'{what} needs {package}, which cannot be imported ({error}): pip install "runyard[{extra}]"'
        ) from None


def numpy(what: str) -> Any:
    """Returns NumPy."""
    return load("numpy", extra="media", what=what)


def is_of(value: object, *names: str) -> bool:
    """Returns whether the value's class, or one that it inherits from, is one of these: "package.Class".

    The package is the outermost one; it need not be loaded to ask.
    """
    wanted = set(names)
    kinds = type(value).__mro__
    return any(f"{(k.__module__ or '').partition('.')[0]}.{k.__name__}" in wanted for k in kinds)


def is_array(value: object) -> bool:
    """Returns whether the value has a shape, as arrays and tensors of all libraries have."""
    return hasattr(value, "shape") and not isinstance(value, type)


def array_of(value: Any, what: str) -> Any:
    """Returns the numbers as a NumPy array; raises InvalidArgument for what is no array of real numbers."""
    np = numpy(what)
    if is_of(value, "torch.Tensor"):
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2"):
            value = value.float()  # NumPy has no such type
        value = value.resolve_conj().resolve_neg().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # ragged lists, objects that refuse
        raise InvalidArgument(f"{what}: no array can be made of it: {error}") from None
    if array.dtype.kind not in "biuf":
        array = _converted(np, array, what)
    return array


def _converted(np: Any, array: Any, what: str) -> Any:
    """Returns the array as 64-bit floats: of objects (Decimal, None as NaN), and of types that NumPy learnt from others."""
    if array.dtype.kind not in "OV":
        raise InvalidArgument(f"{what}: an array of {array.dtype} holds no real numbers")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{what}: an array of {array.dtype} is no array of numbers: {error}"
        ) from None
