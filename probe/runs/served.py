"""A run whose model a server holds: checked at connecting, scored by requests."""

from dataclasses import asdict

import numpy as np

from probe.errors import UsageError
from probe.runs.begun import Begun, Listener, score_missing
from probe.runs.experiment import Experiment
from probe.runs.loaded import Say
from probe.served.api import Api
from probe.served.client import Client
from probe.served.scoring import ServedEngine
from probe.served.sglang import SGLang
from probe.served.vllm import VLLM
from probe.text import shown

APIS: dict[str, type[Api]] = {"vllm": VLLM, "sglang": SGLang}
WINDOWS = 8
"""Windows of a unit: requests of one unit go out at once."""
TEXTS = 3
"""Texts whose tokens are compared."""


class Served:
    """A server, see :class:`probe.runs.begun.Workers`.

    Args:
        client: The server, by default that of the configuration.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._client = client

    def dtype(self, experiment: Experiment) -> str:
        """``served``: what its weights are in, the server does not say.

        Raises:
            UsageError: If something is asked for that takes the inside of a model.
        """
        config, source = experiment.config, experiment.source
        if source.family != "causal":
            raise UsageError(
                f"model.served: model.path {shown(config.model.path)} is of family "
                f"{source.family}; allowed: causal"
            )
        if other := [name for name in config.measures if name != "nll"]:
            raise UsageError(f"measures: {other[0]} of a served model; allowed: nll")
        for one in config.parsed:
            if one.pattern is not None or experiment.plan.gives_positions(one):
                raise UsageError(
                    f"conditions: {shown(one.text)} takes the inside of a model, which a server "
                    "does not show; allowed: conditions that change the text alone"
                )
        return ServedEngine.dtype

    def score(self, begun: Begun, listen: Listener, say: Say) -> None:
        """Check the server, then score unit after unit."""
        experiment, settings = begun.experiment, begun.experiment.config.model
        assert settings.served is not None
        assert settings.api is not None
        api = APIS[settings.api](self._client or Client(settings.served, say=say))
        with ServedEngine(api, settings.concurrency) as engine:
            longest = max(place.length for place in experiment.windows.places)
            engine.refuse_long(longest + experiment.first_token.extra)
            if (unknown := _compare_tokens(experiment, engine)) is not None:
                say(unknown)
            window = experiment.windows[0]
            lead = experiment.first_token.lead(window, window.ids)[: experiment.first_token.extra]
            text = np.concatenate([lead, window.ids])
            outcomes = engine.check(text, experiment.source.vocabulary)
            for outcome in outcomes:
                if not outcome.passed:
                    say(str(outcome))
            before, serves = begun.record["model"], api.serves
            if begun.has_rows and before.get("serves", serves) != serves:
                raise UsageError(
                    f"{begun.store.folder} was scored on {shown(before['serves'])}, and "
                    f"{settings.served} holds {shown(serves)}; allowed: the same, or another name "
                    "for the run"
                )
            told: dict[str, object] = {
                "class": settings.api,
                "device": "served",
                "serves": serves,
                "warnings": [],
            }
            model = before | told
            begun.tell({"check": [asdict(one) for one in outcomes], "model": model})
            batch = experiment.config.batch
            score_missing(begun, engine, WINDOWS if batch == "auto" else batch, listen)


def _compare_tokens(experiment: Experiment, engine: ServedEngine) -> str | None:
    """Compare what both tokenizers make of some texts, and what they put in front.

    Returns:
        What to tell where they could not be compared.

    Raises:
        UsageError: If they differ.
    """
    tokenizer = experiment.source.tokenizer
    texts = [window.text for window in experiment.windows[:TEXTS] if window.text]
    if tokenizer is None or not texts:
        return "the data are token ids: that the server has the same tokens is not checked"
    for special in (False, True):
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=special)
            if not engine.refuse_other_tokens(text, ids, special=special):
                return "the server does not say its tokens: that they are the same is not checked"
    return None
