"""A pattern put on a model for a while, through transformers' own attention and mask interfaces."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from probe.attention.hook import FlexPut, Put, registered
from probe.attention.patterns import Pattern, Placed, add
from probe.attention.rotary import Rotary, refuse_unturned
from probe.attention.terms.mask import Local
from probe.attention.text import parse
from probe.attention.trial import Heeded, refuse_leaks, refuse_unheeded
from probe.errors import UsageError
from probe.text import shown


@contextmanager
def installed(
    model: PreTrainedModel,
    pattern: Pattern | str,
    *,
    boundary: int | None = None,
    flex: bool = False,
    known: Heeded | None = None,
) -> Iterator[Put]:
    """Let a model attend by a pattern, always within its own mask, and then as before.

    Queries and keys are counted from the first token of the sequence, those in a cache included,
    and padding on the left too: sinks of a padded sequence are its padding. It attends as the
    model itself does, by scaled_dot_product_attention or eagerly.
    A mask of four dimensions must be placed first, see `Put.place`.

    Args:
        model: Any decoder or encoder of transformers, in evaluation mode.
        pattern: The pattern, or its text.
        boundary: Index of the first near token, for patterns that tell far from near.
        flex: Use block masks that skip what is hidden, where they compile; `Put.note` says where
            they do not.
        known: What `heeded` found of this model before, so that it is not tried again.

    Yields:
        What is installed.

    Raises:
        UsageError: If the model does not heed patterns, or this pattern does not go with it.
    """
    if not isinstance(pattern, Pattern):
        pattern = parse(pattern)
    _refuse(model, pattern, boundary)
    known = known or heeded(model, pattern)
    pattern.refuse_unknown(known.layers, known.heads)
    if pattern.bidirectional and not known.symmetric:
        raise UsageError(
            f"pattern {shown(pattern.text)}: {type(model).__name__} sees no later tokens; "
            "allowed: first_token"
        )
    note = ""
    if flex:
        put: Put = FlexPut(pattern, type(model).__name__, boundary)
        with registered(model, put):
            note = _why_not(model, put, known)
            if not note:
                yield put
                return
    put = Put(pattern, type(model).__name__, boundary)
    put.note = note
    if pattern.turns_keys:
        put.rotary = Rotary(model, pattern.text)
        refuse_unturned(model, put.rotary)
    with registered(model, put):
        yield put


def heeded(model: PreTrainedModel, pattern: Pattern) -> Heeded:
    """Forward a few tokens to see that every layer heeds patterns, and nothing reads beside them.

    Args:
        model: The model.
        pattern: What it is asked for, for errors: what is tried shows a query its own key alone.

    Raises:
        UsageError: Naming the model, if a layer does not, or something does.
    """
    blind = Put(add([Placed(Local(1, sinks=0))]), type(model).__name__)
    with registered(model, blind):
        layers = refuse_unheeded(model, blind.calls, pattern.text)
        refuse_leaks(model, pattern.text)
    return Heeded(layers, blind.calls.heads, bool(blind.symmetric), blind.calls.cached)


def _why_not(model: PreTrainedModel, put: Put, known: Heeded) -> str:
    """Why block masks cannot be had, in one line; empty where they can."""
    try:
        put.pattern.refuse_dense(known.layers, known.heads)
        refuse_unheeded(model, put.calls, put.pattern.text)
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
