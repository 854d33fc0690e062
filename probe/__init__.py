"""How far back a language model really reads: perturb the distant context, measure the loss.

import probe

probe.score(text, model="gpt2")     # the loss of every token without its far context
run = probe.run("config.yaml")      # a whole experiment
run = probe.open("results/name")    # … one that was run before
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.api.perturb import attend, perturb
    from probe.api.runs import compare, open, plot, run
    from probe.api.score import score

__version__ = "0.2.0"
__all__ = ["__version__", "attend", "compare", "open", "perturb", "plot", "run", "score"]

_MODULES = {
    "attend": "probe.api.perturb",
    "compare": "probe.api.runs",
    "open": "probe.api.runs",
    "perturb": "probe.api.perturb",
    "plot": "probe.api.runs",
    "run": "probe.api.runs",
    "score": "probe.api.score",
}
"""Where each function lives; it is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_MODULES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
