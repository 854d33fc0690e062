"""How far back a language model really reads: perturb the distant context, measure the loss."""

__version__ = "0.2.0"
