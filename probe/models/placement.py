"""Weights as one device would not hold them: over several devices, quantised, with an adapter."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from probe.errors import UsageError
from probe.text import counted, one_line, shown


@dataclass(frozen=True)
class Layout:
    """How weights are held.

    Args:
        device_map: How accelerate spreads them: ``auto``, ``balanced``, ``balanced_low_0``,
            ``sequential``, or the device of each module, ``disk`` among them; ``None`` puts all on
            one device.
        quantization: ``bitsandbytes-4bit`` or ``torchao-int8``. The eight bits of bitsandbytes look
            for outliers in all tokens of a sequence: a loss depends on what follows its token then.
        adapter: A folder or hub name of PEFT weights that are put on.
    """

    device_map: str | Mapping[str, int | str] | None = None
    quantization: str | None = None
    adapter: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all weights are on one device as they are, so that they can be moved there."""
        return self.device_map is None and self.quantization is None

    def given(self, place: torch.device) -> dict[str, Any]:
        """What transformers' loader is given.

        Args:
            place: Where all is put where nothing is spread.

        Raises:
            UsageError: If a package that it takes is not installed.
        """
        if self.is_plain:
            return {}
        spread: Any = self.device_map or {"": str(place)}
        found: dict[str, Any] = {"device_map": spread if isinstance(spread, str) else dict(spread)}
        if self.device_map is not None:
            folder = tempfile.mkdtemp(prefix="probe-offload-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)  # as long as a model lives
            found["offload_folder"] = folder
        try:
            if self.quantization == "torchao-int8":
                from torchao.quantization import Int8WeightOnlyConfig

                found["quantization_config"] = TorchAoConfig(Int8WeightOnlyConfig())
            elif self.quantization is not None:
                found["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True)
        except ImportError as error:
            raise UsageError(
                f"model.quantization {self.quantization}: {one_line(error)}; allowed: "
                "pip install 'context-probe[quantized]'"
            ) from error
        return found

    def put_on(self, model: Any) -> None:
        """Put the adapter on a loaded model.

        Raises:
            UsageError: If it cannot be read, or does not fit.
        """
        if self.adapter is None:
            return
        try:
            told = model.load_adapter(self.adapter)
        except Exception as error:  # of PEFT, the hub, the disk, torch
            raise UsageError(
                f"model.adapter {shown(self.adapter)}: {one_line(error)}; allowed: weights of PEFT "
                "for this model (pip install 'context-probe[adapters]')"
            ) from error
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if wrong := sorted(map(str, getattr(told, what, None) or ())):
                raise UsageError(
                    f"model.adapter {shown(self.adapter)}: {counted(len(wrong), 'weight')} "
                    f"{what.partition('_')[0]}, {wrong[0]} first; allowed: weights for this model"
                )


WHOLE = Layout()
