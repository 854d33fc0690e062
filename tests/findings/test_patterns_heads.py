"""Single heads: ranked by delta, with Holm's p-values and intervals against plain ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
)

from probe.analysis.open_run import open_run
from probe.findings.chart import EmptyChartError
from probe.findings.patterns.answer import finding
from probe.findings.patterns.heads import COLUMNS, chart, holm, plot, ranked, ranking, tables
from probe.findings.patterns.tradeoff import single_head, tradeoff
from probe.render.terminal import table_text, text


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

REPLACED = [
    f"attend(heads({kind}, layers=[{layer}], heads=[{head}]))"
    for kind in ("zero", "mean")
    for layer in (0, 1)
    for head in (0, 1)
]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("attend(heads(zero, layers=[3], heads=[11]))", ("zero", "self", 3, 11)),
        (
            "attend(heads(gaussian(offset=1), layers=[0], heads=[2]))",
            ("gaussian(offset=1)", "self", 0, 2),
        ),
        ("attend(heads(cross(zero), layers=[1], heads=[0]))", ("zero", "cross", 1, 0)),
        ("attend(heads(decoder(mean), layers=[0], heads=[5]))", ("mean", "decoder", 0, 5)),
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
    table = ranked(sums_of(HEADS, 9), 0.95)
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
        row = table[table["head"] == single_head(name)[3]].iloc[0]
        assert row["p_holm"] == pytest.approx(largest, rel=1e-6)
        interval = plain[name].confidence_interval(1 - 0.05 / len(ordered))
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval), rel=1e-6)


@pytest.mark.slow
def test_false_findings_are_rare_among_many_heads():
    """Of 200 tables of heads that cost nothing, about 5 % call any of them different from 0."""
    nothing = dict.fromkeys(HEADS, 0.0)
    wrong = [
        (ranked(sums_of(nothing, 8, seed), 0.95)["p_holm"] < 0.05).any() for seed in range(200)
    ]
    assert 0.01 <= np.mean(wrong) <= 0.1


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


@pytest.mark.slow
def test_limits_hold_for_all_heads_at_once():
    """Whatever the effects are: all intervals of a table hold the truth in about 95 %."""
    truth = {name: delta * (number % 3 - 1) for number, (name, delta) in enumerate(HEADS.items())}
    right = 0
    for seed in range(200):
        table = ranked(sums_of(truth, 8, seed), 0.95)
        true = [truth[f"attend(heads(zero, layers=[0], heads=[{head}]))"] for head in table["head"]]
        right += bool(((table["low"] <= true) & (true <= table["high"])).all())
    assert right >= 180


def test_few_documents_have_no_interval():
    table = ranked(sums_of(HEADS, 4), 0.95)
    assert table[["low", "high", "p_holm"]].isna().all(axis=None)
    assert table["delta"].notna().all()


def test_a_run_without_single_heads():
    assert ranked(sums_of({"attend(local(w=3, sinks=1))": 0.1}, 8), 0.95).empty


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    """A run of the model's heads, replaced one at a time in two ways."""
    return score(base, tmp_path_factory.mktemp("heads"), conditions=REPLACED)


@pytest.fixture(name="run")
def opened(folder):
    with open_run(folder, write=False) as run:
        yield run


@pytest.mark.slow
def test_heads_as_colours(run):
    """A cell a head, a dot where Holm's p is small, grey where nothing was replaced."""
    table = ranked(sums_of(HEADS, 9), 0.95)
    drawn = chart(run, table[table["head"] != 4])
    cells = drawn.cells
    assert cells.values.shape == (1, 12)
    assert (len(cells.x), len(cells.y)) == (13, 2)
    assert list(np.flatnonzero(np.isnan(cells.values[0]))) == [4]
    assert cells.values[0, 7] == table.set_index("head")["delta"][7]
    differs = set(table.loc[table["p_holm"] < 0.05, "head"]) - {4}
    assert set(cells.dots) == {(head, 0) for head in differs}
    assert 0 < len(differs) < 11
    assert drawn.heading[-1] == "zero in place of a head; dot: significant (Holm)"
    assert (drawn.file, drawn.on_page) == ("heads-zero", False)
    assert (drawn.x.label, list(drawn.x.ticks)) == ("head", [0, 2, 4, 6, 8, 10])
    with pytest.raises(EmptyChartError, match="no single head was replaced"):
        chart(run, table.head(0))
    with pytest.raises(ValueError, match="one kind of one attention is drawn"):
        chart(run, pd.concat([table, table.assign(kind="mean")]))


@pytest.mark.slow
def test_a_run_of_single_heads_alone(run):
    """No pattern has a row in the table: heads have tables of their own, and a figure a kind."""
    one = finding(run)
    assert run.once(tradeoff).empty
    assert one.sentence == f"{len(REPLACED)} single heads were replaced, one at a time."
    assert list(one.files) == ["heads.csv"]
    assert [each.file for each in one.charts] == ["heads-mean", "heads-zero"]
    assert [ending for ending, _ in plot([run])] == ["-mean", "-zero"]
    assert text(one).count("in place of each of 4 heads") == 2
    assert "the last columns: delta of the other kinds" in text(one)
    assert "hard-coded heads in a model that was not trained with them" in text(one)


@pytest.mark.slow
def test_a_run_without_single_heads_has_no_figure_of_them(base, tmp_path):
    folder = score(base, tmp_path, conditions=["attend(local(8))"], data__max_documents=1)
    with open_run(folder, write=False) as run, pytest.raises(EmptyChartError, match="no single"):
        list(plot([run]))


def test_the_terminal_has_the_first_ten():
    """The page twenty, the file all; the caption says how many differ from 0."""
    many = {f"attend(heads(zero, layers=[1], heads=[{n}]))": 0.004 * n for n in range(25)}
    printed, page = tables(ranked(sums_of(many, 9), 0.95), 0.05)
    assert (len(printed.rows), printed.shown) == (10, "terminal")
    assert (len(page.rows), page.shown) == (20, "page")
    assert page.rows[:10] == printed.rows
    assert printed.caption.startswith("zero in place of each of 25 heads: ")
    assert printed.caption.endswith(
        "(Holm's p below 0.05), the others are not significantly different from 0"
    )
    assert table_text(printed).splitlines()[1].split()[:3] == ["layer", "head", "delta"]


def test_those_told_from_0_come_first():
    """A large delta of no certainty stands behind a small one that is certain."""
    table = ranked(sums_of(HEADS, 9), 0.95)
    unsure = table.assign(p_holm=np.where(table["head"] == 11, 1.0, table["p_holm"]))
    names, cells = ranking(unsure, "zero", 0.05)
    assert names[:4] == ["layer", "head", "delta (nats per token)", "p (Holm)"]
    told = set(unsure.loc[unsure["p_holm"] < 0.05, "head"].map(str))
    order = [row[1] for row in cells]
    assert set(order[: len(told)]) == told
    assert order[len(told)] == "11"
