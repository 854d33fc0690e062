"""What a reader must know before believing an answer."""

from collections.abc import Iterable

import pandas as pd

from probe.analysis.effective import LOWERS, EffectiveContext
from probe.analysis.floor import NoiseFloor
from probe.analysis.losses import Losses


def flags(
    contexts: Iterable[EffectiveContext],
    floor: NoiseFloor | None,
    measured: Losses,
    rows: pd.DataFrame,
    trained: int | None = None,
) -> tuple[str, ...]:
    """The flags of a run.

    Args:
        contexts: Its answers.
        floor: Its noise floor, if any.
        measured: Its losses.
        rows: Its sums, from :func:`probe.analysis.sums.document_sums`.
        trained: Tokens that the model was trained on at once, where that is known.

    Returns:
        One line for each flag.
    """
    lines = [
        f"{context.condition} at {context.tolerance} is not monotone: delta is significantly above"
        " the tolerance again at longer distances"
        for context in contexts
        if "not monotone" in context.flags
    ]
    lowered = {c.condition: None for c in contexts if LOWERS in c.flags and not c.only_lowers}
    lines += [
        f"{condition} also lowers the loss, at some distances by more than the tolerance: its"
        " length says how far it raises the loss, not how far it is read"
        for condition in lowered
    ]
    if floor is None:
        lines.append("no noise floor: the run has no noise condition")
    if measured.worsening is not None:
        rise, low = measured.worsening
        lines.append(
            f"the intact loss worsens with position: by {rise:.3f} nats (at least {low:.3f}) from"
            " the second to the last quarter of the measured positions"
        )
        longest = int(measured.by_position["position_to"].max())
        if trained is not None and longest > trained:
            lines[-1] += (
                f"; targets stand at up to {longest:,} tokens, and beyond the length that the model"
                f" was trained on ({trained:,} by its configuration) delta has no meaning"
            )
    if rows["grey"].any():
        start = int(rows.loc[rows["grey"], "distance_from"].min())
        lines.append(
            f"distances from {start:,} on have targets with less far than near text: they are drawn"
            " grey and never answer"
        )
    return tuple(lines)
