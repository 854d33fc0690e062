"""How far back a language model really reads: perturb the distant context, measure the loss.

In a notebook::

    import probe

    probe.score(text, model="gpt2")  # the loss of every token without its far context
    run = probe.run("config.yaml")  # a whole experiment
    run = probe.open("results/name")  # … one that was run before
"""

from importlib import import_module

TYPE_CHECKING = False  # that of typing, which takes longer to import than all of this
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

if not TYPE_CHECKING:  # or any name would be one to the type checker

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        function = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return function


def __dir__() -> list[str]:
    return __all__
