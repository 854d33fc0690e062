"""What a model takes at once: a protocol fitted to its positions, and what does not fit refused."""

from probe.branches import FirstToken
from probe.config import Config
from probe.errors import UsageError
from probe.models.load import ModelSource
from probe.protocol import Dense, LongPPL, Passages, Plan, longppl
from probe.protocol.passages import LONGEST


def fitted(config: Config, source: ModelSource, extra: int) -> Plan:
    """The protocol on a model, behind *extra* tokens that stand in front of every window."""
    plan = config.plan
    if isinstance(plan, LongPPL):
        plan = longppl(longest_window(config, source, extra), plan.context, plan.stride)
    elif isinstance(plan, Passages):
        return plan.within(longest_window(config, source, extra) or LONGEST, extra)
    return plan.within(plan.length, extra)


def longest_window(config: Config, source: ModelSource, extra: int) -> int | None:
    """Tokens at which whole documents are cut: the model's positions, or fewer if asked for."""
    places = None if source.positions is None else source.positions - extra
    return places if config.windows.length is None else config.windows.length


def longest_forward(config: Config, protocol: Plan, first_token: FirstToken) -> int | None:
    """Most tokens of a window that are forwarded at once, ``None`` for all of it."""
    if isinstance(protocol, Dense):
        return protocol.context + 1 + first_token.kept
    return config.windows.length


def check_positions(
    config: Config, protocol: Plan, source: ModelSource, first_token: FirstToken
) -> None:
    """Refuse windows that are longer than the model's positions, and a BOS it does not know.

    Raises:
        UsageError: If so.
    """
    bos, size, extra = first_token.bos, source.vocabulary, first_token.extra
    if bos is not None and bos >= size and extra:
        raise UsageError(
            f"first_token is {first_token.mode!r}: the tokenizer's BOS has the id {bos}; "
            f"the model knows 0 to {size - 1}"
        )
    positions, length = source.positions, longest_forward(config, protocol, first_token)
    if positions is None or (length or 0) + extra <= positions:
        return
    name = "protocol.context and its target take"
    name = name if isinstance(protocol, Dense) else "windows.length is"
    raise UsageError(
        f"{name} {length}{' and the kept first token' if extra else ''}: the model has {positions} "
        f"positions; allowed: up to {positions - extra}"
    )
