"""Where a model computes, and in which dtype."""

import torch
from torch import nn

from probe.errors import UsageError


def resolve_device(device: str) -> torch.device:
    """The torch device that a name means.

    Raises:
        UsageError: If torch does not know it or it is not there.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
        if place.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        line = str(error).splitlines()[0]
        raise UsageError(f"model.device is {device!r}: {line}; allowed: auto, cpu, cuda") from error
    return place


def resolve_dtype(dtype: str, device: torch.device) -> str:
    """The dtype that ``auto`` means: bfloat16 where the device computes in it, else float32.

    A CPU without bfloat16 instructions emulates them several times slower than float32.
    """
    if dtype != "auto":
        return dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device.type == "cpu":
        return "bfloat16" if _has_bfloat16() else "float32"
    return "float32"


def slow_dtype(dtype: str, device: torch.device) -> str | None:
    """What to say of a dtype that was asked for and that the device does not compute in.

    Args:
        dtype: Resolved dtype of the weights.
        device: Where they are.
    """
    if device.type != "cpu" or dtype == "float32" or (dtype == "bfloat16" and _has_bfloat16()):
        return None
    return f"this CPU has no instructions for {dtype} and emulates it; float32 is faster on it"


def free_memory(model: nn.Module) -> int | None:
    """Free bytes of the GPUs that hold a model; ``None`` where it is not on GPUs alone.

    What torch has reserved and does not use is free, too.
    """
    devices = {weight.device for weight in model.parameters()}
    if not devices or any(device.type != "cuda" for device in devices):
        return None
    return sum(
        torch.cuda.mem_get_info(device)[0]
        + torch.cuda.memory_reserved(device)
        - torch.cuda.memory_allocated(device)
        for device in devices
    )


def _has_bfloat16() -> bool:
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
