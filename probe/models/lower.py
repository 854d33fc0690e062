"""The lower layers of a model, forwarded once for all that changes only layers above them.

A layer gives what it gave before, as long as nothing below it has changed. So the outputs of the
layers of one forward are kept, and the layers below the first changed one hand them over in later
forwards, in place of computing them anew.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from probe.models.causal import CausalModel, stubbed

Outputs = dict[int, Any]
"""What layers gave, by number."""


class Layers:
    """The layers of a model in their order.

    Args:
        model: The model.

    Attributes:
        count: How many there are; 0 where the model has no list of them.
    """

    def __init__(self, model: CausalModel) -> None:
        self._layers = _find(model)
        self.count = len(self._layers)

    @contextmanager
    def kept(self, numbers: Collection[int]) -> Iterator[Outputs]:
        """Keep what some layers give in the forward made meanwhile.

        Args:
            numbers: Of the layers, from 0 on.

        Yields:
            Their outputs, filled by the forward.
        """
        outputs: Outputs = {}
        with ExitStack() as hooks:
            for number in sorted(numbers):
                hooks.callback(self._keep(number, outputs).remove)
            yield outputs

    def _keep(self, number: int, outputs: Outputs) -> Any:
        def hook(_module: nn.Module, _given: Any, output: Any) -> None:
            outputs[number] = _copied(output)

        return self._layers[number].register_forward_hook(hook)

    @contextmanager
    def below(self, first: int, outputs: Outputs) -> Iterator[None]:
        """Leave out the layers below *first* in forwards of the same tokens made meanwhile.

        Args:
            first: The first layer that is computed.
            outputs: What was kept of layer ``first - 1``, where *first* is not 0.
        """
        with ExitStack() as stubs:
            for layer in self._layers[:first]:
                stubs.enter_context(
                    stubbed(layer, lambda *_, **__: _copied(outputs[first - 1])),
                )
            yield


def _find(model: CausalModel) -> list[nn.Module]:
    count = getattr(model.model.config.get_text_config(), "num_hidden_layers", 0)
    lists = [
        module
        for module in model.body.modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    return list(lists[0]) if len(lists) == 1 else []


def _copied(output: Any) -> Any:
    """A copy that nothing which is done in place can spoil."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    return type(output)(map(_copied, output)) if isinstance(output, tuple | list) else output
