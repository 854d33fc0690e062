"""A pattern applied to a model for a while, through transformers' own attention interface.

Whether a model supports patterns is tried: several accept them and go on attending as before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from probe.attention.hook import TOKENS, FlexHook, PatternHook, attached, probe_forward
from probe.attention.parse import parse
from probe.attention.pattern import Pattern, PlacedTerm, add
from probe.attention.rotary import Rotary, refuse_other_rotation
from probe.attention.terms.mask import Local
from probe.errors import UsageError
from probe.text import shown


@dataclass(frozen=True)
class Support:
    """What probe forwards showed of a model that supports patterns.

    Args:
        layers: Number of its layers.
        heads: Query heads of a layer, the most.
        symmetric: Whether queries see later keys, as in encoders.
        cached: Key-value heads, and dimensions of keys and values, as attention is handed them.
    """

    layers: int
    heads: int
    symmetric: bool
    cached: tuple[int, int, int]


@contextmanager
def apply_pattern(
    model: PreTrainedModel,
    pattern: Pattern | str,
    *,
    boundary: int | None = None,
    flex: bool = False,
    support: Support | None = None,
) -> Iterator[PatternHook]:
    """Let a model attend by a pattern, always within its own mask, and then as before.

    Queries and keys are counted from the first token of the sequence, those in a cache included,
    and padding on the left too: sinks of a padded sequence are its padding. It attends as the
    model itself does, by scaled_dot_product_attention or eagerly.
    A mask of four dimensions must be placed first, see `PatternHook.place`.

    Args:
        model: Any decoder or encoder of transformers, in evaluation mode.
        pattern: The pattern, or its text.
        boundary: Index of the first near token, for patterns that tell far from near.
        flex: Use block masks that skip what is hidden, where they compile; `PatternHook.note` says
            where they do not.
        support: What `check_support` said of this model before, so that it is not tried again.

    Yields:
        The hook that is attached to the model.

    Raises:
        UsageError: If the model does not support patterns, or this pattern does not go with it.
    """
    if not isinstance(pattern, Pattern):
        pattern = parse(pattern)
    _refuse(model, pattern, boundary)
    support = support or check_support(model, pattern)
    pattern.refuse_unknown(support.layers, support.heads)
    if pattern.bidirectional and not support.symmetric:
        raise UsageError(
            f"pattern {shown(pattern.text)}: {type(model).__name__} sees no later tokens; "
            "allowed: first_token"
        )
    note = ""
    if flex:
        hook: PatternHook = FlexHook(pattern, type(model).__name__, boundary)
        with attached(model, hook):
            note = _why_not_flex(model, hook, support)
            if not note:
                yield hook
                return
    hook = PatternHook(pattern, type(model).__name__, boundary)
    hook.note = note
    if pattern.turns_keys:
        hook.rotary = Rotary(model, pattern.text)
        refuse_other_rotation(model, hook.rotary)
    with attached(model, hook):
        yield hook


def check_support(model: PreTrainedModel, pattern: Pattern) -> Support:
    """Forward a few tokens to see that every layer obeys patterns, and nothing reads beside them.

    Args:
        model: The model.
        pattern: What it is asked for, for errors: what is tried shows a query its own key alone.

    Raises:
        UsageError: Naming the model, if a layer does not, or something does.
    """
    blind = PatternHook(add([PlacedTerm(Local(1, sinks=0))]), type(model).__name__)
    with attached(model, blind):
        layers = _layers_obeying(model, blind, pattern.text)
        _refuse_leaks(model, pattern.text)
    return Support(layers, blind.heads, bool(blind.symmetric), blind.cached)


def _layers_obeying(model: PreTrainedModel, hook: PatternHook, pattern: str) -> int:
    """The number of a model's layers, all of which call its hook in a forward of a few tokens.

    A layer that does not sees what the pattern hides: no attention function reaches Bloom, MPT,
    Falcon and Mamba, which would all show that hiding costs nothing.

    Raises:
        UsageError: If there is such a layer, or the model cannot be forwarded.
    """
    family = type(model).__name__
    try:
        probe_forward(model)
    except UsageError:
        raise
    except Exception as error:  # whatever a family does with a mask that it did not expect
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(f"pattern {shown(pattern)} cannot be put on {family}: {reason}") from error
    layers = hook.count
    missing = [str(layer) for layer in range(layers) if layer not in hook.layers]
    if missing:
        which = "none" if len(missing) == layers else f"all but {', '.join(missing)}"
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {family}: {which} of its {layers} layers "
            "uses transformers' attention interface; allowed: models of which every layer does, "
            "such as Llama or GPT-2"
        )
    return layers


def _refuse_leaks(model: PreTrainedModel, pattern: str) -> None:
    """Refuse a model in which text reaches a token though attention shows it its own key alone.

    Recurrent parts beside attention (Falcon-H1) go on remembering what a pattern hides, and delta
    would say that hiding is free.
    """
    ids = torch.zeros((2, TOKENS), dtype=torch.long, device=model.device)
    ids[1, 0] = 1  # another first token must not move what is said behind the last
    last = probe_forward(model, ids)[:, -1].float()
    scale = max(1e-6, float(last.abs().max()))
    if float((last[0] - last[1]).abs().max()) > 1e-4 * scale:
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {type(model).__name__}: text reaches a "
            "token although attention hides it, as through recurrent layers; allowed: models that "
            "read by attention alone, such as Llama or GPT-2"
        )


def _why_not_flex(model: PreTrainedModel, hook: PatternHook, support: Support) -> str:
    """Why block masks cannot be had, in one line; empty where they can."""
    try:
        hook.pattern.refuse_dense(support.layers, support.heads)
        _layers_obeying(model, hook, hook.pattern.text)
    except UsageError as error:
        return f"flex_attention does not serve here, dense masks do: {error}"
    return ""


def _refuse(model: PreTrainedModel, pattern: Pattern, boundary: int | None) -> None:
    """Refuse what no forward is needed to see."""
    named, family = f"pattern {shown(pattern.text)}", type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"{named} cannot be put on {family}; allowed: a model of transformers")
    if getattr(model.config, "is_encoder_decoder", False):
        raise UsageError(f"{named}: {family} is encoder and decoder; allowed: either alone")
    if model.training:
        raise UsageError(f"{named}: {family} is in training mode; allowed: model.eval()")
    if pattern.needs_boundary and boundary is None:
        raise UsageError(
            f"{named} distinguishes far from near text and needs a boundary; got None; "
            "allowed: boundary=, the index of the first near token"
        )
