"""The lower layers of a model, forwarded once for all patterns that change only layers above them.

A layer gives what it gave before, as long as nothing below it has changed. So the outputs of the
layers of one forward are recorded, and the layers below the first changed one hand them over in
later forwards, in place of computing them anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from probe.engine.branch import Attention, Branch, columns
from probe.models.scorer import Scorer, stubbed

Outputs = dict[int, Any]
"""What layers gave, by number."""


@dataclass(frozen=True)
class SharedLayers:
    """The lower layers of one text, which several patterns leave alone.

    Args:
        branch: Number of a branch that holds the text.
        first: The first layer that each pattern says something about, at least 1.
    """

    branch: int
    first: dict[Attention, int]

    @property
    def outputs(self) -> frozenset[int]:
        """Numbers of the layers whose outputs are needed."""
        return frozenset(first - 1 for first in self.first.values())


def shared_lower_layers(
    batch: Sequence[Sequence[Branch]], groups: Mapping[Attention | None, list[int]], layers: int
) -> list[SharedLayers]:
    """Which texts to forward once more, so that patterns need not forward their lower layers.

    Args:
        batch: Branches of windows that are walked together.
        groups: Their numbers by what attention may see.
        layers: Number of the model's layers.

    Returns:
        Those texts for which less is forwarded that way.
    """
    texts: dict[bytes, SharedLayers] = {}
    for attention, numbers in groups.items():
        if attention is None or len(numbers) != 1 or not attention.pattern.first_layer:
            continue
        text = columns([window[numbers[0]] for window in batch]).tobytes()
        shared = texts.setdefault(text, SharedLayers(numbers[0], {}))
        shared.first[attention] = min(attention.pattern.first_layer, layers)
    # The forward that is recorded goes through all layers: so many must be spared at least.
    return [shared for shared in texts.values() if sum(shared.first.values()) > layers]


def computed_share(first: int, layers: int) -> float:
    """The part of a forward that is left where the layers below *first* are skipped."""
    return 1 - first / layers if layers else 1.0


class Layers:
    """The layers of a model in their order.

    Args:
        model: The model.

    Attributes:
        count: How many there are; 0 where the model has no list of them.
    """

    def __init__(self, model: Scorer) -> None:
        count = getattr(model.model.config.get_text_config(), "num_hidden_layers", 0)
        lists = [
            module
            for module in model.body.modules()
            if isinstance(module, nn.ModuleList) and len(module) == count
        ]
        self._layers = list(lists[0]) if len(lists) == 1 else []
        self.count = len(self._layers)

    @contextmanager
    def recorded(self, numbers: Collection[int]) -> Iterator[Outputs]:
        """Record what some layers give in the forward made meanwhile.

        Args:
            numbers: Of the layers, from 0 on.

        Yields:
            Their outputs, filled by the forward.
        """
        outputs: Outputs = {}

        def record(number: int, _module: nn.Module, _given: Any, output: Any) -> None:
            outputs[number] = _copied(output)

        with ExitStack() as hooks:
            for number in numbers:
                hook = partial(record, number)
                hooks.enter_context(self._layers[number].register_forward_hook(hook))
            yield outputs

    @contextmanager
    def skipped(self, first: int, outputs: Outputs) -> Iterator[None]:
        """Skip the layers below *first* in forwards of the same tokens made meanwhile.

        Args:
            first: The first layer that is computed.
            outputs: What was recorded of layer ``first - 1``, where *first* is not 0.
        """
        with ExitStack() as stubs:
            for layer in self._layers[:first]:
                # Every one gives what the last of them gave: what it is given it does not look at.
                stubs.enter_context(stubbed(layer, lambda *_, **__: _copied(outputs[first - 1])))
            yield


def _copied(output: Any) -> Any:
    """A copy that nothing which is done in place can spoil."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    return type(output)(map(_copied, output)) if isinstance(output, tuple | list) else output
