"""A pattern applied to a model for a while, through transformers' own attention interface."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from probe.attention.hook import FlexHook, PatternHook, attached
from probe.attention.parse import parse
from probe.attention.pattern import Pattern, PlacedTerm, add
from probe.attention.rotary import Rotary, refuse_other_rotation
from probe.attention.support import Support, refuse_leaks, refuse_unsupported
from probe.attention.terms.mask import Local
from probe.errors import UsageError
from probe.text import shown


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
        layers = refuse_unsupported(model, blind.calls, pattern.text)
        refuse_leaks(model, pattern.text)
    return Support(layers, blind.calls.heads, bool(blind.symmetric), blind.calls.cached)


def _why_not_flex(model: PreTrainedModel, hook: PatternHook, support: Support) -> str:
    """Why block masks cannot be had, in one line; empty where they can."""
    try:
        hook.pattern.refuse_dense(support.layers, support.heads)
        refuse_unsupported(model, hook.calls, hook.pattern.text)
    except UsageError as error:
        return f"flex_attention does not serve here, dense masks do: {error}"
    return ""


def _refuse(model: PreTrainedModel, pattern: Pattern, boundary: int | None) -> None:
    family = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"pattern {shown(pattern.text)} cannot be put on {family}; allowed: a model of "
            "transformers"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise UsageError(
            f"pattern {shown(pattern.text)}: {family} is encoder and decoder; allowed: either alone"
        )
    if model.training:
        raise UsageError(
            f"pattern {shown(pattern.text)}: {family} is in training mode; allowed: model.eval()"
        )
    if pattern.needs_boundary and boundary is None:
        raise UsageError(
            f"pattern {shown(pattern.text)} tells far from near and needs a boundary; got None; "
            "allowed: boundary=, the index of the first near token"
        )
