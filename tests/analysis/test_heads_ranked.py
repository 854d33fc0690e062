"""Single heads: ranked by delta, with Holm's p-values and intervals against plain ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from probe.analysis.heads import COLUMNS, head_table, holm, single_head
from probe.analysis.heads_answer import ranking
from probe.plots import heads
from probe.plots.style import EmptyFigureError


def sums_of(deltas: dict[str, float], documents: int, seed: int = 0) -> pd.DataFrame:
    """Documents of 100 targets each, whose mean deltas differ by a little."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {"condition": name, "document": str(d), "targets": 100, "delta_sum": 100 * value}
            for name, delta in deltas.items()
            for d, value in enumerate(delta + rng.normal(0, 0.01, documents))
        ]
    )


HEADS = {f"attend(heads(zero, layers=[0], heads=[{n}]))": 0.004 * n for n in range(12)}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("attend(heads(zero, layers=[3], heads=[11]))", ("zero", 3, 11)),
        ("attend(heads(gaussian(offset=1), layers=[0], heads=[2]))", ("gaussian(offset=1)", 0, 2)),
        ("attend(heads(zero, layers=[3, 4], heads=[1]))", None),
        ("attend(heads(zero, layers=[3]))", None),
        ("attend(local(w=3, sinks=1))", None),
        ("attend(heads(zero, layers=[٣], heads=[1]))", None),
    ],
)
def test_conditions_that_are_one_head(condition, found):
    assert single_head(condition) == found


def test_ranked_with_plain_p_values(tmp_path):
    """Equal documents: p is that of a t-test over documents' means, times what is left."""
    table = head_table(sums_of(HEADS, 9), 0.95)
    assert list(table.columns) == list(COLUMNS)
    assert table["delta"].is_monotonic_decreasing
    rows = sums_of(HEADS, 9)
    plain = {
        name: ttest_1samp(own["delta_sum"] / 100, 0) for name, own in rows.groupby("condition")
    }
    ordered = sorted(plain, key=lambda name: plain[name].pvalue)
    largest = 0.0
    for rank, name in enumerate(ordered):
        steps = len(ordered) - rank
        largest = max(largest, min(1, steps * plain[name].pvalue))
        row = table[table["head"] == single_head(name)[2]].iloc[0]
        assert row["p_holm"] == pytest.approx(largest, rel=1e-6)
        interval = plain[name].confidence_interval(1 - 0.05 / len(ordered))
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval), rel=1e-6)


def test_false_findings_are_rare_among_many_heads():
    """Of 200 tables of heads that cost nothing, about 5 % call any of them different from 0."""
    nothing = dict.fromkeys(HEADS, 0.0)
    wrong = [
        (head_table(sums_of(nothing, 8, seed), 0.95)["p_holm"] < 0.05).any() for seed in range(200)
    ]
    assert 0.01 <= np.mean(wrong) <= 0.1


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


def test_limits_hold_for_all_heads_at_once():
    """Whatever the effects are: all intervals of a table hold the truth in about 95 %."""
    truth = {name: delta * (number % 3 - 1) for number, (name, delta) in enumerate(HEADS.items())}
    right = 0
    for seed in range(200):
        table = head_table(sums_of(truth, 8, seed), 0.95)
        true = [truth[f"attend(heads(zero, layers=[0], heads=[{head}]))"] for head in table["head"]]
        right += bool(((table["low"] <= true) & (true <= table["high"])).all())
    assert right >= 180


def test_few_documents_have_no_interval():
    table = head_table(sums_of(HEADS, 4), 0.95)
    assert table[["low", "high", "p_holm"]].isna().all(axis=None)
    assert table["delta"].notna().all()


def test_a_run_without_single_heads():
    assert head_table(sums_of({"attend(local(w=3, sinks=1))": 0.1}, 8), 0.95).empty


def test_heads_as_colours(tmp_path):
    """A cell a head, a dot where Holm's p is small, grey where nothing was replaced."""
    table = head_table(sums_of(HEADS, 9), 0.95)
    axes = heads(table[table["head"] != 4])
    (mesh,) = axes.collections
    cells = mesh.get_array()
    assert cells.shape == (1, 12)
    assert list(np.flatnonzero(np.ma.getmaskarray(cells)[0])) == [4]
    by_head = table.set_index("head")["delta"]
    np.testing.assert_allclose(cells.filled(0)[0, 7], by_head[7])
    dots = {int(at) for line in axes.get_lines() for at in line.get_xdata()}
    told = set(table.loc[table["p_holm"] < 0.05, "head"]) - {4}
    assert dots == told
    assert 0 < len(told) < 11
    with pytest.raises(EmptyFigureError):
        heads(table.head(0))
    with pytest.raises(ValueError, match="one kind is drawn"):
        heads(pd.concat([table, table.assign(kind="mean")]))


def test_those_told_from_0_come_first():
    """A large delta of no certainty stands behind a small one that is certain."""
    table = head_table(sums_of(HEADS, 9), 0.95)
    unsure = table.assign(p_holm=np.where(table["head"] == 11, 1.0, table["p_holm"]))
    names, cells = ranking(unsure, "zero", 20, 0.05)
    assert names[:4] == ["layer", "head", "delta (nats a token)", "p (Holm)"]
    told = set(unsure.loc[unsure["p_holm"] < 0.05, "head"].map(str))
    order = [row[1] for row in cells]
    assert set(order[: len(told)]) == told
    assert order[len(told)] == "11"
