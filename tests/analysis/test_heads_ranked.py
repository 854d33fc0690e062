"""Single heads: ranked by delta, with Holm's p-values and intervals against plain ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from probe.analysis.heads import COLUMNS, head_table, holm, single_head


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
