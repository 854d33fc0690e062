"""A pattern applied to a model for a while, through transformers' own attention interface.

Whether a model supports patterns is tried: several accept them and go on attending as before.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from probe.attention.hook import (
    TARGETS,
    TOKENS,
    FlexHook,
    PatternHook,
    attached,
    probe_decoder,
    probe_encoder,
    probe_forward,
    probe_source,
)
from probe.attention.parse import parse
from probe.attention.pattern import Pattern
from probe.attention.rotary import Rotary, refuse_other_rotation
from probe.errors import UsageError
from probe.text import shown

_BLIND = parse("encoder(local(1, sinks=0)) + decoder(local(1, sinks=0)) + cross(zero)")
"""What shows a query its own key alone, and a decoder nothing of its source."""


@dataclass(frozen=True)
class Support:
    """What probe forwards showed of one attention of a model that supports patterns.

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


Supports = Mapping[str, Support]
"""The attentions of a model by name; that of a model with one is empty."""


@contextmanager
def apply_pattern(
    model: PreTrainedModel,
    pattern: Pattern | str,
    *,
    boundary: int | None = None,
    places: Sequence[int] | None = None,
    flex: bool = False,
    support: Supports | None = None,
) -> Iterator[PatternHook]:
    """Let a model attend by a pattern, always within its own mask, and then as before.

    Queries and keys are counted from the first token of the sequence, those in a cache included,
    and padding on the left too: sinks of a padded sequence are its padding. It attends as the
    model itself does, by scaled_dot_product_attention or eagerly.
    A mask of four dimensions must be placed first, see `PatternHook.place`.

    Args:
        model: Any decoder, encoder or encoder–decoder of transformers, in evaluation mode.
        pattern: The pattern, or its text.
        boundary: Index of the first near token, for patterns that tell far from near.
        places: For each token that a decoder reads the index of the source token that the next one
            belongs to, for patterns of cross attention that go by it.
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
    _refuse(model, pattern, boundary, places)
    support = support or check_support(model, pattern)
    for name, part in pattern.parts.items():
        part.refuse_unknown(support[name].layers, support[name].heads)
        if part.bidirectional and not support[name].symmetric:
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
    at = None if places is None else tuple(map(int, places))
    hook = PatternHook(pattern, type(model).__name__, boundary, at)
    hook.note = note
    if pattern.turns_keys:
        hook.rotary = Rotary(model, pattern.text)
        refuse_other_rotation(model, hook.rotary)
    with attached(model, hook):
        yield hook


def check_support(model: PreTrainedModel, pattern: Pattern) -> Supports:
    """Forward a few tokens to see that every layer obeys patterns, and nothing reads beside them.

    Args:
        model: The model.
        pattern: What it is asked for, for errors: what is tried shows a query its own key alone,
            and a decoder nothing of its source.

    Raises:
        UsageError: Naming the model, if a layer does not, or something does.
    """
    both = getattr(model.config, "is_encoder_decoder", False)
    # Under the name of what it is tried for, which is what an error is about.
    blinding = replace(_BLIND if both else _BLIND.parts["encoder"], text=pattern.text)
    blind = PatternHook(blinding, type(model).__name__)
    with attached(model, blind):
        _refuse_disobeying(model, blind, pattern.text)
        if both:
            _refuse_leaks_of_both(model, blind, pattern.text)
        else:
            _refuse_leaks(model, pattern.text)
    symmetric = {"": bool(blind.symmetric), "decoder": False}
    return {
        name: Support(one.count, one.heads, symmetric.get(name, True), one.cached)
        for name, one in blind.attentions.items()
    }


def _refuse_disobeying(model: PreTrainedModel, hook: PatternHook, pattern: str) -> None:
    """Refuse a model of which not every layer calls its hook in a forward of a few tokens.

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
    for name, one in hook.attentions.items():
        missing = [str(layer) for layer in range(one.count) if layer not in one.layers]
        if missing:
            which = "none" if len(missing) == one.count else f"all but {', '.join(missing)}"
            layers = f"{one.count} {name} layers".replace("  ", " ")
            raise UsageError(
                f"pattern {shown(pattern)} cannot be put on {family}: {which} of its {layers} "
                "uses transformers' attention interface; allowed: models of which every layer "
                "does, such as Llama or GPT-2"
            )


def _refuse_leaks(model: PreTrainedModel, pattern: str) -> None:
    """Refuse a model in which text reaches a token though attention shows it its own key alone.

    Recurrent parts beside attention (Falcon-H1) go on remembering what a pattern hides, and delta
    would say that hiding is free.
    """
    one, other = _two_tokens(model)
    ids = torch.full((2, TOKENS), one, dtype=torch.long, device=model.device)
    ids[1, 0] = other  # another first token must not move what is said behind the last
    if _differ(probe_forward(model, ids)):
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {type(model).__name__}: text reaches a "
            "token although attention hides it, as through recurrent layers; allowed: models that "
            "read by attention alone, such as Llama or GPT-2"
        )


def _refuse_leaks_of_both(model: PreTrainedModel, hook: PatternHook, pattern: str) -> None:
    """The same of an encoder–decoder, whose decoder must read nothing of its source."""
    first, other = _two_tokens(model)
    source = probe_source(model).repeat(2, *[1] * (probe_source(model).ndim - 1))
    if not source.is_floating_point():
        source[:] = first
    source[1, ..., 0] = other
    target = torch.full((2, TARGETS), first, dtype=torch.long, device=model.device)
    same, one = target.clone(), source[:1].repeat(2, *[1] * (source.ndim - 1))
    target[1, 0] = other
    leaks = {
        "in its encoder": probe_encoder(model, source),
        "in its decoder": probe_decoder(model, one, target),
        "from its source": probe_decoder(model, source, same),
    }
    keys = {name: one.keys for name, one in hook.attentions.items()}
    told = keys["decoder"] == TARGETS and keys["cross"] == keys["encoder"]
    found = [where for where, output in leaks.items() if _differ(output)]
    if found or not told:
        where = found[0] if found else "in its decoder"
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {type(model).__name__}: text reaches a "
            f"token {where} although attention hides it; allowed: encoder–decoders that read by "
            "three separate attentions, such as T5 or BART"
        )


def _two_tokens(model: PreTrainedModel) -> tuple[int, int]:
    """Two tokens that are no padding, at which some models (RoBERTa, M2M100) count no position."""
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    one, other, *_ = (token for token in range(3) if token != padding)
    return one, other


def _differ(output: torch.Tensor) -> bool:
    """Whether two rows end differently, shape ``(2, tokens, n)``."""
    last = output[:, -1].float()
    scale = max(1e-6, float(last.abs().max()))
    return float((last[0] - last[1]).abs().max()) > 1e-4 * scale


def _why_not_flex(model: PreTrainedModel, hook: PatternHook, support: Supports) -> str:
    """Why block masks cannot be had, in one line; empty where they can."""
    if "" not in support:
        return "flex_attention does not serve an encoder–decoder here, dense masks do"
    try:
        hook.pattern.refuse_dense(support[""].layers, support[""].heads)
        _refuse_disobeying(model, hook, hook.pattern.text)
    except UsageError as error:
        return f"flex_attention does not serve here, dense masks do: {error}"
    return ""


def _refuse(
    model: PreTrainedModel, pattern: Pattern, boundary: int | None, places: Sequence[int] | None
) -> None:
    """Refuse what no forward is needed to see."""
    named, family = f"pattern {shown(pattern.text)}", type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"{named} cannot be put on {family}; allowed: a model of transformers")
    named_ones = {placed.attention for placed in pattern.placed}
    if getattr(model.config, "is_encoder_decoder", False):
        if "" in named_ones:
            raise UsageError(
                f"{named}: {family} has three attentions; allowed: encoder(...), decoder(...) and "
                "cross(...) around patterns"
            )
    elif named_ones != {""}:
        raise UsageError(
            f"{named}: {family} has one attention; allowed: a pattern without "
            f"{', '.join(sorted(named_ones - {''}))}"
        )
    if model.training:
        raise UsageError(f"{named}: {family} is in training mode; allowed: model.eval()")
    if pattern.needs_boundary and boundary is None:
        raise UsageError(
            f"{named} distinguishes far from near text and needs a boundary; got None; "
            "allowed: boundary=, the index of the first near token"
        )
    if places is not None:
        _refuse_places(places, named)
    elif pattern.needs_places:
        raise UsageError(
            f"{named} goes by the places in the source that tokens belong to; got None; allowed: "
            "places=, an index of the source for each token that the decoder reads"
        )


def _refuse_places(places: Sequence[int], named: str) -> None:
    """Refuse what is no list of indices."""
    try:
        whole = all(operator.index(place) >= 0 for place in places)
    except (TypeError, ValueError):  # a tensor may have several numbers in a place
        whole = False
    if not whole:
        raise UsageError(
            f"{named}: places is {shown(places)}; allowed: an index of the source, 0 or more, for "
            "each token that the decoder reads"
        )
