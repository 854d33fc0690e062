"""What a run would take on hardware that is not here: by formula, from shapes alone."""

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from probe.engine.flops import CHIPS, FlopsFormula, without_formula
from probe.errors import ProbeError, UsageError
from probe.results.scores import MERGED
from probe.runs.experiment import Experiment
from probe.runs.plan import Planned, planned_batch
from probe.text import counted, one_line, shown, suggestion

MFU = 0.4
"""Model FLOPs utilisation where nothing is said."""
BYTES = 2  # of a weight and of a number in the cache: 16 bits


@dataclass(frozen=True)
class Hardware:
    """Chips of one kind.

    Args:
        count: How many.
        chip: What they are called.
        peak: FLOP/s of one.
        mfu: Model FLOPs utilisation: the share of the peak that is used.
    """

    count: int
    chip: str
    peak: float
    mfu: float = MFU

    def __str__(self) -> str:
        return f"{self.count} × {self.chip}"


def parse_hardware(text: str, mfu: float = MFU) -> Hardware:
    """Read hardware: ``8x H100``, or TFLOP/s of a chip, ``8x 400``.

    Args:
        text: The hardware.
        mfu: Share of the peak that is used, above 0, at most 1.

    Raises:
        UsageError: If it is neither, or *mfu* out of range.
    """
    if not 0 < mfu <= 1:
        raise UsageError(f"mfu is {mfu:g}; allowed: above 0, at most 1, such as 0.4")
    match = re.fullmatch(r"\s*(?:(\d{1,6})\s*[x×]\s*)?(\S+)\s*", text)
    allowed = f"such as '8x H100'; {', '.join(CHIPS)}, or TFLOP/s of another, '8x 400'"
    if match is None or match[1] == "0":
        raise UsageError(f"hardware {shown(text)} is not understood; allowed: {allowed}")
    count, chip = int(match[1] or 1), match[2]
    for name, peak in CHIPS.items():
        if name.lower() == chip.lower():
            return Hardware(count, name, peak * 1e12, mfu)
    if re.fullmatch(r"\d+(\.\d+)?", chip) and float(chip):
        return Hardware(count, f"{float(chip):g} TFLOP/s", float(chip) * 1e12, mfu)
    raise UsageError(f"unknown chip {shown(chip)}{suggestion(chip, CHIPS, f'allowed: {allowed}')}")


@dataclass(frozen=True)
class Projection:
    """What a run takes on hardware.

    Args:
        hardware: The hardware.
        parameters: Of the model, embeddings and head too.
        body: FLOPs of the formula with weights of the body.
        attention: FLOPs of queries with keys and weights with values.
        head: FLOPs of the head, of targets alone.
        cache: Bytes of keys and values of the longest window.
        parts: Files of scores, merged.
    """

    hardware: Hardware
    parameters: int
    body: float
    attention: float
    head: float
    cache: float
    parts: int

    @property
    def flops(self) -> float:
        """All of them."""
        return self.body + self.attention + self.head

    @property
    def chip_hours(self) -> float:
        """Hours of one chip."""
        return self.flops / (self.hardware.peak * self.hardware.mfu) / 3600

    def as_json(self) -> dict[str, float | int | str]:
        """The same as plain values, as ``docs/schemas/plan.json`` has them."""
        return {
            "count": self.hardware.count,
            "chip": self.hardware.chip,
            "peak_flops": self.hardware.peak,
            "mfu": self.hardware.mfu,
            "parameters": self.parameters,
            "flops": self.flops,
            "chip_hours": self.chip_hours,
            "cache_bytes_per_window": self.cache,
            "parts": self.parts,
        }

    def __str__(self) -> str:
        shares = (f"{100 * part / self.flops:.0f} %" for part in (self.attention, self.head))
        attention, head = shares
        return (
            f"On {self.hardware} at {100 * self.hardware.mfu:g} % of "
            f"{self.hardware.peak / 1e12:g} TFLOP/s: about "
            f"{self.chip_hours / self.hardware.count:,.2g} h, {self.chip_hours:,.2g} GPU hours\n"
            f"{self.flops:.2e} FLOPs (attention {attention}, head {head}); "
            f"{self.parameters / 1e9:,.3g} billion parameters, "
            f"{self.parameters * BYTES / 1e9:,.3g} GB in 16 bits;\n"
            f"{self.cache / 1e9:,.2g} GB of keys and values of a window; "
            f"{counted(self.parts, 'file')} of scores"
        )


def project(experiment: Experiment, cost: Planned, hardware: Hardware) -> Projection:
    """Count the FLOPs of a run, and say what they take; see :mod:`probe.engine.flops`.

    A forwarded token sees as many keys as one of its window does on average.

    Args:
        experiment: The run.
        cost: What it forwards.
        hardware: On what.

    Raises:
        UsageError: If the model is no causal one, or has layers for which there is no formula.
        ProbeError: If transformers cannot make a model of its configuration.
    """
    path, config = experiment.config.model.path, experiment.source.config
    if experiment.source.family != "causal":
        raise UsageError(
            f"hardware: model.path {shown(path)} is of family {experiment.source.family}; "
            "allowed: causal"
        )
    if what := without_formula(config):
        raise UsageError(
            f"hardware: model.path {shown(path)} has layers of {shown(what)}, for which there is "
            "no formula; allowed: attention to keys"
        )
    try:
        with torch.device("meta"):  # no weight is made
            model: Any = AutoModelForCausalLM.from_config(config)
        formula = FlopsFormula.of(model, config, experiment.source.vocabulary, number_bytes=BYTES)
    except Exception as error:  # whatever a configuration leads to
        raise ProbeError(f"hardware: no shapes of the model: {one_line(error)}") from error
    parts = math.ceil(cost.windows / planned_batch(experiment.config))
    length = max(place.length for place in experiment.windows.places)
    targets = sum(sum(octaves.values()) for octaves in cost.targets.values())
    return Projection(
        hardware,
        sum(weight.numel() for weight in model.parameters()),
        body=formula.body(cost.tokens),
        attention=formula.attention(0, length) / length * cost.tokens,
        head=formula.logits(targets),
        cache=formula.cache(length),
        parts=parts // MERGED + parts % MERGED,
    )
