"""Token ids as a list, a numpy array or a torch tensor: taken in, given back as they came."""

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, cast

import numpy as np
from numpy.typing import NDArray

from probe.text import shown

if TYPE_CHECKING:
    import torch

Ids: TypeAlias = NDArray[np.int64]
"""What a perturbation works on: shape ``(n,)``, int64."""

AnyIds: TypeAlias = Union[list[int], NDArray[Any], "torch.Tensor"]
"""What a caller may hand over: one dimension, integers."""

Kind = TypeVar("Kind", bound=AnyIds)


def to_array(value: AnyIds, what: str = "far") -> Ids:
    """Copy token ids of any kind into a numpy array.

    Args:
        value: Token ids, shape ``(n,)``: a list of int, an integer array, or an integer tensor on
            any device.
        what: What the ids are called in an error.

    Returns:
        A new array of shape ``(n,)``, int64, that shares no memory with *value*.

    Raises:
        ValueError: If *value* is of another kind, has not one dimension, holds anything but
            integers (bool is none), or integers beyond int64.
    """
    if _is_tensor(value):
        array = _from_tensor(value, what)
    elif isinstance(value, list):
        array = _from_list(value, what)
    elif isinstance(value, np.ndarray):
        array = value
    else:
        raise ValueError(
            f"{what} must be a list of int, an integer numpy array or an integer torch tensor; "
            f"got {shown(value)} ({type(value).__name__})"
        )
    if array.ndim != 1:
        raise ValueError(f"{what} must have one dimension; got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold integers; got {array.dtype}: {array[:3]}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{what} must hold integers that fit int64; got {array.max()}")
    return np.array(array, dtype=np.int64)


def like(ids: Ids, original: Kind) -> Kind:
    """Turn token ids into the kind that *original* is.

    Args:
        ids: Token ids, shape ``(n,)``, int64.
        original: A list, array or tensor of any length, as accepted by `to_array`.

    Returns:
        The same ids as a list, or as an array or tensor with the dtype and device of *original*.

    Raises:
        ValueError: If an id does not fit the dtype of *original*.
    """
    given: Any = original
    result: Any
    if isinstance(given, list):
        result = ids.tolist()
    elif _is_tensor(given):
        exact = _cast(ids, np.dtype(_dtype_name(given)))
        result = sys.modules["torch"].from_numpy(exact).to(given.device)
    else:
        result = _cast(ids, given.dtype)
    return cast(Kind, result)


def _is_tensor(value: Any) -> bool:
    # Where there is a tensor, torch is loaded already: importing it is never up to us.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _from_tensor(tensor: Any, what: str) -> NDArray[Any]:
    dtype = _dtype_name(tensor)
    if not dtype.startswith(("int", "uint")):  # some of the others have no numpy twin (bfloat16)
        raise ValueError(f"{what} must hold integers; got a tensor of {dtype}")
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _from_list(values: list[Any], what: str) -> NDArray[Any]:
    # numpy would take True for 1 without a word; looking at types costs one pass in C.
    for kind in set(map(type, values)):
        if kind is bool or not issubclass(kind, int | np.integer):
            wrong = next(value for value in values if type(value) is kind)
            raise ValueError(f"{what} must hold integers; got {shown(wrong)} ({kind.__name__})")
    # An empty list has no type of its own, and numpy would call it float.
    return np.array(values) if values else np.array(values, dtype=np.int64)


def _cast(ids: Ids, dtype: np.dtype[Any]) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    if ids.size and not (limits.min <= ids.min() and ids.max() <= limits.max):
        wrong = ids.min() if ids.min() < limits.min else ids.max()
        raise ValueError(
            f"id {wrong} does not fit {dtype}, the dtype of far; "
            f"allowed: {limits.min} to {limits.max}"
        )
    return ids.astype(dtype)
