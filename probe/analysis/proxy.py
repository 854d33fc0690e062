"""A small model's run as the predictor of a big model's: the same text, joined by characters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from probe.analysis.bins import bin_index, octave_edges
from probe.analysis.bootstrap import Floats, ratio, standard_error
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.predicted import Prediction, Proxy
from probe.analysis.sums import binned, by_octave, document_sums, to_sums
from probe.errors import UsageError
from probe.text import counted, shown

SAME = ("data", "windows", "protocol", "seed", "first_token")
"""What of an identity a proxy must share: models and tokenizers may differ."""
EDGE = 64
"""Characters at either end of a window that two tokenizers may begin and end apart."""


def use_proxy(run: OpenRun, small: OpenRun) -> None:
    """Let another model's run on more documents of the same data narrow what a run says.

    What far text is worth to the small model over an octave of the run's distances (nats), less as
    many targets of the mean of all its documents, is what is predicted, of each bin of the octave
    by its share of the targets: single bins of two models agree far less. Where tokenizers differ,
    its distances are those of the run times its tokens for one of the run's.

    Args:
        run: The run of the big model, of which nothing was worked out yet.
        small: The run of the small one, which holds all documents of the other.

    Raises:
        UsageError: If it is one of other data, windows, conditions or documents.
    """
    conditions, ratio_of_tokens = _refuse_other(run, small)
    edges = octave_edges(run.last_edge)
    sums = _sums(small, scaled(edges, ratio_of_tokens))
    names, centred = {name: at for at, name in enumerate(small.documents)}, {}
    own = [names[name] for name in run.documents]
    octave = bin_index(run.edges[:-1], edges)
    within = np.eye(len(edges) - 1)[octave]
    rows = document_sums(run.connection, run.edges)
    for condition in filter(sums.__contains__, conditions):
        nats, count = sums[condition]
        mean = np.nan_to_num(ratio(nats.sum(axis=0), count.sum(axis=0)))
        predicted = (nats - mean * count)[own]
        found = to_sums(rows[(rows["condition"] == condition) & ~rows["grey"]], run.documents)
        targets = np.zeros((len(own), len(octave)))
        targets[:, np.searchsorted(run.edges, found.lower)] = found.targets
        shares = np.nan_to_num(ratio(targets, (targets @ within)[:, octave]))
        centred[condition] = predicted[:, octave] * shares
    known = Prediction(len(run.documents), len(small.documents), run.edges, centred)
    run.proxy = Proxy(small.path, small.model, known)


COLUMNS = ("condition", "distance_from", "distance_to", "r_squared", "low", "high", "half_width")


def explained(run: OpenRun) -> pd.DataFrame:
    """How much of the variance between documents a run's proxy explains.

    Args:
        run: The run, with a proxy.

    Returns:
        One row a condition and octave of distance (tokens), columns ``COLUMNS``: R² of the sums
        around their means a target, with its limits, and half the width of the interval of the mean
        delta without the proxy (nats per token). Conditions whose documents share far texts are
        left out.
    """
    tail, rows = (1 - run.analysis.confidence) / 2, []
    plain = run.plain_sums[~run.plain_sums["grey"].astype(bool)]
    for condition, own in plain[~plain["condition"].map(is_noise)].groupby("condition"):
        if run.texts(str(condition)) is not None:  # whose unit is no document
            continue
        sums = to_sums(by_octave(own, run.last_edge), run.documents)
        predicted = np.zeros_like(sums.sums)
        if run.prediction is not None:
            predicted = run.prediction.inside(str(condition), sums.lower, sums.upper)
        t = stdtrit(sums.documents - 1, 1 - tail)
        widths = t * standard_error(sums.sums, sums.targets)
        for at, width in enumerate(widths.tolist()):
            values = np.stack([predicted[:, at], sums.sums[:, at]])
            r = _r_squared(values, sums.targets[:, at], run.weights)
            limits = np.nanquantile(r[1:], [tail, 1 - tail]) if np.isfinite(r[0]) else (r[0], r[0])
            place = int(sums.lower[at]), int(sums.upper[at])
            rows.append((str(condition), *place, r[0], *limits, width))
    return pd.DataFrame(rows, columns=list(COLUMNS))


SPLIT = (
    *("condition", "distance_from", "distance_to", "r_squared"),
    *("documents", "proxy_documents", "plain", "half_width"),
)
"""Columns of :func:`split`: documents of the big and of the small model, and half the width of the
interval (nats per token) without the proxy and with it."""


def split(run: OpenRun, small: OpenRun, documents: int) -> pd.DataFrame:
    """How a budget is best divided between a big and a small model, by what a pilot says.

    The variance of a mean is that of one document times r / n + (1 - r) / N, where r is the share
    that the proxy leaves, n and N the documents of both. At n · C + N · c = budget, costs C and c a
    document, it is least where N / n = √((1 - r) C / (r c)).

    Args:
        run: The pilot: a run of the big model with *small* as its proxy.
        small: The run of the small model.
        documents: The budget, as documents of the big model alone.

    Returns:
        One row a condition and octave of distance (tokens), columns ``SPLIT``; where the proxy is
        worth nothing, all documents are the big model's.

    Raises:
        UsageError: If nothing says what a run has cost.

    Source: Cochran 1977, "Sampling techniques", section 12.3, double sampling for regression.
    """
    found, cheaper = explained(run), _cost(small) / _cost(run)
    left = (1 - found["r_squared"]).clip(1e-3, 1).fillna(1)
    big, little = np.sqrt(left), np.sqrt((1 - left) * cheaper)
    useful = (big + little < 1) & (little > big * cheaper)
    plain = found["half_width"] * np.sqrt(len(run.documents) / documents)
    many, more = documents * big / (big + little), documents * little / cheaper / (big + little)
    return found.assign(
        documents=many.where(useful, documents).round().clip(lower=1).astype(int),
        proxy_documents=more.where(useful, 0).round().astype(int),
        plain=plain,
        half_width=plain * (big + little).where(useful, 1),
    )[list(SPLIT)]


def _cost(run: OpenRun) -> float:
    """FLOPs of a document, or tokens forwarded times parameters where there is no formula.

    Raises:
        UsageError: If neither is known.
    """
    costs, known = run.facts.costs, run.facts.model.model_extra or {}
    total = costs.get("flops") or 2 * (costs.get("tokens") or 0) * (known.get("parameters") or 0)
    if not total:
        raise UsageError(f"'{run.path}': run.json does not say what it has cost; allowed: a run")
    return float(total) / len(run.documents)


def _r_squared(values: Floats, targets: Floats, weights: Floats) -> Floats:
    """R² of two sums a document around their means a target, of all and of each resample."""
    draws = np.concatenate([np.ones((1, len(targets))), weights])
    means = ratio(draws @ values.T, np.broadcast_to((draws @ targets)[:, None], (len(draws), 2)))
    one, two = (values[:, None, :] - means.T[:, :, None] * targets) * np.sqrt(draws)
    products, squares = (one * two).sum(axis=1), (one**2).sum(axis=1) * (two**2).sum(axis=1)
    return ratio(products**2, squares)


def scaled(edges: NDArray[np.int64], factor: float) -> NDArray[np.int64]:
    """Distances times a factor, each a token or more from the one before."""
    steps = np.arange(len(edges))
    whole = np.round(edges * factor).astype(np.int64)
    return np.asarray(np.maximum.accumulate(whole - steps) + steps)


def _sums(run: OpenRun, edges: NDArray[np.int64]) -> dict[str, tuple[Floats, Floats]]:
    """Delta (nats) and targets by condition, each of shape ``(documents, bins)``."""
    with binned(run.connection, edges) as connection:
        found = connection.execute(
            """SELECT condition::VARCHAR AS condition, document::VARCHAR AS document, bin,
                sum(delta) AS delta, count(*) AS targets
            FROM targets JOIN bins USING (distance) WHERE NOT grey GROUP BY ALL"""
        ).df()
    names = {name: at for at, name in enumerate(run.documents)}
    sums = {}
    for condition, rows in found.groupby("condition"):
        place = rows["document"].map(names).to_numpy(), rows["bin"].to_numpy()
        values = np.zeros((2, len(names), len(edges) - 1))
        values[0][place], values[1][place] = rows["delta"], rows["targets"]
        sums[str(condition)] = values[0], values[1]
    return sums


# -- what is no proxy ----------------------------------------------------------------------------


def _refuse_other(run: OpenRun, small: OpenRun) -> tuple[list[str], float]:
    """Refuse a proxy of other data, windows, conditions or documents.

    Returns:
        The conditions that are predicted, and the proxy's tokens for one of the run's.

    Raises:
        UsageError: If it is one.
    """
    about = f"--proxy '{small.path}'"
    if small.path.resolve() == run.path.resolve():
        raise UsageError(f"{about}: a run is no proxy of itself; allowed: another model's run")
    for key in SAME:
        for name, value, other in _differing(key, run.facts.identity, small.facts.identity):
            raise UsageError(
                f"{about}: {name} is {shown(other)}; allowed: {shown(value)}, as in '{run.path}'"
            )
    conditions = [name for name in run.conditions if not is_noise(name)]
    if missing := [name for name in conditions if name not in small.conditions]:
        raise UsageError(
            f"{about}: conditions lack {shown(missing[0])}; allowed: all of '{run.path}', "
            f"{', '.join(conditions)}"
        )
    known = set(small.documents)
    if missing := [name for name in run.documents if name not in known]:
        raise UsageError(
            f"{about}: {counted(len(missing), 'document')} of '{run.path}' has no score there, the "
            f"first is {shown(missing[0])}; allowed: a proxy of all of them, and of more"
        )
    ours, theirs = _windows(run.connection), _windows(small.connection)
    for place, window in ours.items():
        if problem := _apart(window, theirs.get(place)):
            raise UsageError(
                f"{about}: window {place[1]} of {shown(place[0])} {problem}; allowed: the windows "
                f"and boundaries of '{run.path}', as windows.unit: characters gives any two models"
            )
    return conditions, sum(theirs[at].behind for at in ours) / sum(w.behind for w in ours.values())


def _differing(
    key: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """What of a key of two identities differs: its name and both values."""
    one, two = ours.get(key), theirs.get(key)
    if isinstance(one, dict) and isinstance(two, dict):
        for name in dict.fromkeys([*one, *two]):
            if one.get(name) != two.get(name):
                yield f"{key}.{name}", one.get(name), two.get(name)
    elif one != two:
        yield key, one, two


@dataclass(frozen=True)
class _Place:
    """A window with a score, by its characters.

    Args:
        text: Its text.
        before: Where the token before the first boundary begins, in *text*.
        boundary: Where the first intact token begins.
        behind: Tokens from there on.
    """

    text: str
    before: int
    boundary: int
    behind: int


def _windows(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, int], _Place]:
    """The windows with scores, by document and number.

    Raises:
        UsageError: If one has no text.
    """
    rows = connection.execute(
        """SELECT w.document::VARCHAR, w."window", w.text, w.char_start[far], w.char_start[far + 1],
            len(w.token_ids) - far
        FROM windows w JOIN (
            SELECT document, "window", min(far) AS far FROM targets GROUP BY ALL
        ) t ON w.document = t.document AND w."window" = t."window\""""
    ).fetchall()
    if bad := [name for name, _, *rest in rows if None in (rest[0], rest[2])]:
        raise UsageError(
            f"document {shown(bad[0])} has no text, and windows of two models are joined by their "
            "characters; allowed: data with text"
        )
    return {(name, at): _Place(text, before or 0, *rest) for name, at, text, before, *rest in rows}


def _apart(one: _Place, two: _Place | None) -> str:
    """In which way a window of another run is no window of the same text; empty where it is."""
    if two is None:
        return "has no score"
    edge = min(EDGE, len(one.text) // 4)
    core = one.text[edge : len(one.text) - edge]
    # Text that repeats itself is found in several places: one of them fits.
    shifts = [at for at in range(-edge, edge + 1) if two.text.startswith(core, edge + at)]
    if not shifts or abs(len(one.text) - len(two.text)) > 2 * edge:
        return "holds another text"
    # The first token at or behind one character, of both: there is one that fits both.
    if any(
        max(one.before + at, two.before) < min(one.boundary + at, two.boundary) for at in shifts
    ):
        return ""
    return f"has its boundary at character {two.boundary}, not {one.boundary + shifts[0]}"
