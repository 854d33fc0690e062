"""Charts of findings: what is drawn is what the numbers say, and every part of it can be read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from figures import assert_readable
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.analysis.settings import Analysis
from probe.classes.curves import ClassCurves
from probe.errors import UsageError
from probe.findings import by_tolerance, classes, contrasts, curve, documents, information
from probe.findings.base import findings
from probe.findings.chart import EmptyChartError
from probe.render import figures, svg
from probe.render.layout import legend_entries
from probe.render.markup import shortened
from probe.results.tolerance import parse_tolerance

EDGES = np.array([*range(8), 8, 16, 32, 64, 128, 256, 512])
OCTAVES = np.array([0, 8, 16, 32, 64, 128, 256, 512])
MARKUP = "<script>$x$</script> of a very long name indeed"
CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: 0.5 / (1 + d),
}


@pytest.fixture(scope="module", name="run")
def one_run(tmp_path_factory):
    simulation = Simulation(
        CURVES, data="prices_in_$ and $x^2$", boundaries=(100, 256), curve_starts={"shuffle": 64}
    )
    with open_run(write_run(tmp_path_factory.mktemp("charts") / "run", simulation)) as run:
        yield run


def bins(edges=EDGES, height=1.0, **columns):
    """One series: a delta that falls with distance, its limits on both sides."""
    delta = height / (1 + edges[:-1])
    frame = pd.DataFrame({"distance_from": edges[:-1], "distance_to": edges[1:]})
    frame = frame.assign(delta=delta, low=delta - 0.02, high=delta + 0.03, fit=delta)
    return frame.assign(targets=100, documents=8, **columns)


def entries(chart):
    """The texts of the legend."""
    return [text for _, text in legend_entries(chart)]


def assert_drawn(*charts):
    """Both back ends draw it, and in the figure nothing hides anything else."""
    for chart in charts:
        assert "<svg" in svg.draw(chart)
    axes = figures.draw(charts)
    assert_readable(*axes.figure.axes[: len(charts)])


# -- curve ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_curve_has_units_and_a_place_for_zero(run):
    """Both axes have their unit, distance 0 a tick, every condition a legend entry."""
    chart = curve.overlay([run])
    assert chart.x.label == "distance (tokens)"
    assert chart.y.label == "delta (nats per token)"
    assert chart.x.ticks[0] == 0
    told = entries(chart)
    assert told[:2] == ["truncate", "shuffle"]
    assert "less far than near text" in told
    assert told[-1] == "truncate, 1 %: 32"
    assert list(chart.heading) == [
        *("tiny-model", "prices_in_$ and $x^2$", "8 documents, 16 windows, 6,592 targets")
    ]
    assert_drawn(chart)


def test_every_bin_of_a_curve_is_drawn(run):
    """At its middle with its limits, where all are asked for; grey what has less far than near."""
    chart = curve.overlay([run], bins=8)
    for name, look in (("truncate", 0), ("shuffle", 1)):
        rows = run.curve[run.curve["condition"] == name]
        assert rows["distance_from"].min() == (64 if name == "shuffle" else 0)
        grey, line = (
            next(s for s in chart.series if s.look == look and s.role == role)
            for role in ("grey", "series")
        )
        assert (grey.name, line.name) == ("", name)
        for series, own in ((grey, rows[rows["grey"]]), (line, rows[~rows["grey"]])):
            middle = (own["distance_from"] + own["distance_to"] - 1) / 2
            np.testing.assert_allclose(series.x, middle, rtol=0.01)  # beside one another
            for values, column in ((series.y, "delta"), (series.low, "low"), (series.high, "high")):
                np.testing.assert_allclose(values, own[column])


def test_octaves_are_pooled_from_their_targets(run):
    """Plainly, from the rows: their mean is that of all targets, and no mean of means."""
    rows = run.connection.execute(
        "SELECT condition, distance, delta FROM targets WHERE NOT grey AND distance < 128"
    ).df()
    for bins, edges in ((1, [0, 1, 2, 4, 8, 16, 32, 64, 128]), (2, [*range(4), 4, 6, 8, 12, 16])):
        pooled = curve.pooled_curve(run, bins)
        own = pooled[(pooled["condition"] == "truncate") & ~pooled["grey"]]
        assert list(own["distance_from"])[: len(edges)] == [*edges, 128][: len(edges)]
        for _, row in own[own["distance_to"] <= edges[-1]].iterrows():
            at = rows["distance"].between(row["distance_from"], row["distance_to"] - 1)
            inside = rows.loc[at & (rows["condition"] == "truncate"), "delta"]
            assert row["delta"] == pytest.approx(inside.mean())
            assert row["targets"] == len(inside)
    keys = ["condition", "grey", "distance_from"]
    whole = curve.pooled_curve(run, 8).sort_values(keys)
    shown = run.curve[run.curve["condition"].isin(CURVES)].sort_values(keys)
    for name in ("distance_from", "distance_to", "delta", "low", "high", "targets", "documents"):
        np.testing.assert_allclose(whole[name], shown[name])


@pytest.mark.slow
def test_an_octave_says_what_was_measured_of_it(tmp_path):
    """A curve that starts inside of an octave has a point from its start on."""
    late = Simulation(CURVES, boundaries=(100,), curve_starts={"shuffle": 48}, windows=1)
    with open_run(write_run(tmp_path / "run", late)) as run:
        pooled = curve.pooled_curve(run, 1)
        first = pooled[pooled["condition"] == "shuffle"].iloc[0]
        assert (first["distance_from"], first["distance_to"]) == (48, 64)


def test_bins_that_cannot_be_pooled(run):
    """What does not divide the run's own is refused with what does."""
    for bins in (0, 3, 16):
        with pytest.raises(UsageError, match=f"--bins {bins}: .* 8 bins per octave; allowed: 1, 2"):
            curve.overlay([run], bins=bins)


def test_the_fit_is_drawn_in_steps(run):
    """Those of the bins that answer, however few points are drawn; each changes between two bins.

    So the line goes through the tolerance where the answer's mark stands.
    """
    chart = curve.overlay([run])
    for name in CURVES:
        rows = run.curve[(run.curve["condition"] == name) & ~run.curve["grey"]]
        (line,) = (one for one in chart.series if one.name == name)
        x, y = line.fit
        np.testing.assert_array_equal(y[::2], rows["fit"])
        np.testing.assert_array_equal(y[1::2], rows["fit"])
        np.testing.assert_array_equal(x[1::2], rows["distance_to"] - 0.5)
    (mark,) = chart.intervals
    x, y = next(one.fit for one in chart.series if one.name == "truncate")
    assert y[x < mark.at - 0.5].min() >= mark.y > y[x > mark.at].max()


def test_a_band_far_below_zero_is_cut(run):
    """It says no more than one that reaches below zero; that it does so is seen."""
    chart = curve.overlay([run], bins=8)
    threshold = chart.y.threshold
    assert threshold == pytest.approx(np.log(1.01))
    lowest = run.curve["low"].min()
    assert lowest < 0
    assert chart.y.low <= max(lowest, -3 * threshold)
    assert chart.y.low >= 1.25 * min(-3 * threshold, run.curve["delta"].min()) - threshold


def test_tolerances_and_the_answer_are_marked(run):
    """A rule at each tolerance, the diamond on that of the headline, the floor around zero."""
    chart = curve.overlay([run])
    assert [rule.label for rule in chart.rules] == ["1 %", "2 %", "5 %", "10 %"]
    (mark,) = chart.intervals
    assert (mark.y, mark.low, mark.at, mark.high) == (chart.rules[0].at, 30, 32, 36)
    assert mark.title == "truncate, 1 %: 32 (30–36)"
    assert (mark.label, mark.lane, mark.look) == ("32", 0, None)


def test_answers_that_are_no_length_have_no_mark(run):
    """Nor one that lowers the loss; one of 0 stands at 0, one beyond is an arrow from its limit."""
    answer = run.headline()
    for change in ({"kind": "unresolved", "value": None}, {"epsilon": None}):
        assert curve.marks([replace(answer, **change)]) == []
    lowers = replace(answer, kind="zero", value=0, estimate=0, lower=0, upper=0)
    assert curve.marks([replace(lowers, flags=("lowers the loss",)), None]) == []
    (zero,) = curve.marks([lowers])
    assert (zero.low, zero.at, zero.high, zero.beyond, zero.label) == (0, 0, 0, False, "0")
    (late,) = curve.marks([replace(answer, value=64, estimate=64, lower=0, flags=("at most",))])
    assert (late.low, late.label) == (0, "≤ 64")
    open_above = {"kind": "greater", "value": 24, "estimate": None, "lower": 24, "upper": None}
    (beyond,) = curve.marks([replace(answer, **open_above)])
    assert (beyond.low, beyond.at, beyond.high, beyond.beyond) == (24, None, answer.reach, True)
    assert beyond.label == "> 24"


@pytest.mark.slow
def test_a_noise_floor_is_drawn_where_it_can_be_seen(run):
    """Beside a tolerance that it comes near; one that is far smaller is told in words alone."""
    assert curve.overlay([run]).floor is None
    limit = f"{np.nanmax(run.floor.limit):.1g}".replace("-", "−")
    told = curve.chart(run).how
    assert told.endswith(f"Noise floor: at most {limit} nats.")
    strict = Analysis(tolerances=(parse_tolerance("0.001%"),))
    with open_run(run.path, analysis=strict, write=False) as other:
        chart = curve.overlay([other])
        np.testing.assert_allclose(chart.floor.limits, run.floor.limit)
        assert chart.legend[0][0] == "floor"


@pytest.mark.slow
def test_several_runs_are_drawn_over_one_another(run):
    """The colour tells the run, dash and mark the condition; one entry says what diamonds are."""
    chart = curve.overlay([run, run])
    named = [series for series in chart.series if series.name]
    assert [series.name for series in named] == [
        f"simulated ({number}): {name}" for number in (1, 2) for name in CURVES
    ]
    assert [series.appearance[0] for series in named] == [0, 0, 1, 1]
    assert len({series.appearance[1:] for series in named}) == 2
    assert entries(chart)[-1] == "effective context, 1 %, by run"
    assert [(mark.look, mark.lane, mark.label) for mark in chart.intervals] == [
        *((0, 0, ""), (1, 1, ""))  # one above the other, where both can be seen
    ]
    assert list(chart.heading)[2:] == ["simulated (1): 8 documents", "simulated (2): 8 documents"]
    assert_drawn(chart)


def test_no_curve_is_an_error(tmp_path):
    """There is nothing to draw."""
    with pytest.raises(EmptyChartError, match="no run with a curve to draw"):
        curve.overlay([])
    with (
        open_run(write_run(tmp_path / "noise", Simulation({}, windows=1))) as run,
        pytest.raises(EmptyChartError, match="no run with a curve to draw"),
    ):
        curve.overlay([run])


# -- classes --------------------------------------------------------------------------------------


def class_frames(values, conditions=("shuffle", "truncate"), unresolved=()):
    """Curves and effective contexts of one class; at 2 % all that can has an answer."""
    curves = [
        bins(height=1 + number, **{"class": "frequency", "value": value, "condition": condition})
        for number, value in enumerate(values)
        for condition in conditions
    ]
    contexts = [
        {
            "class": "frequency",
            "value": value,
            "condition": condition,
            "tolerance": tolerance,
            "kind": "length" if tolerance == "2%" and value not in unresolved else "unresolved",
            "short": "64 (32–128)",
        }
        for value in [*values, *(each for each in unresolved if each not in values)]
        for condition in conditions
        for tolerance in ("1%", "2%")
    ]
    return pd.concat(curves, ignore_index=True), pd.DataFrame(contexts)


def measured(curves, contexts=None):
    nothing = pd.DataFrame()
    if contexts is None:
        contexts = class_frames(("x",))[1][:0]
    return ClassCurves(curves, contexts, nothing, nothing, nothing, ())


def test_classes_are_told_with_their_lengths(run):
    """``truncate`` first, at the first tolerance with an answer; what has none there is grey."""
    curves, contexts = class_frames(("top", "rest", "few"), unresolved=("few", "absent"))
    at_five = contexts[contexts["value"] == "few"].assign(tolerance="5%", kind="length")
    contexts = pd.concat([contexts, at_five.drop_duplicates("condition")])
    chart = classes.class_chart(run, measured(curves, contexts), "frequency", None)
    assert chart.heading[-1] == "frequency: truncate"
    assert entries(chart) == [
        "top: 64 (32–128)",
        "rest: 64 (32–128)",
        "few: unresolved",
        "not drawn: absent",
    ]
    assert [rule.label for rule in chart.rules] == ["2 %"]
    own = curves[(curves["value"] == "few") & (curves["condition"] == "truncate")]
    (grey,) = (series for series in chart.series if series.role == "grey")
    np.testing.assert_allclose(grey.x, (own["distance_from"] + own["distance_to"] - 1) / 2)
    np.testing.assert_allclose(grey.y, own["fit"])
    assert grey.low is None
    assert grey.points is False
    assert all(series.low is not None for series in chart.series if series.role == "series")
    assert_drawn(chart)


def test_classes_without_contexts_have_no_lengths(run):
    """Nothing is unresolved then, and the legend holds the names alone, cut where too long."""
    curves, _ = class_frames((MARKUP, "rest"))
    chart = classes.class_chart(run, measured(curves), "frequency", "shuffle")
    assert entries(chart) == [MARKUP, "rest"]
    assert not chart.rules
    assert {series.role for series in chart.series} == {"series"}
    assert_drawn(chart)
    legend = figures.draw(chart).get_legend().get_texts()
    assert legend[0].get_text() == shortened(MARKUP, 52)
    assert not legend[0].get_parse_math()


def test_of_a_long_value_the_answer_is_whole(run):
    """The value is cut, so that the legend has room for both."""
    curves, contexts = class_frames((MARKUP,))
    (entry,) = entries(classes.class_chart(run, measured(curves, contexts), "frequency", None))
    assert entry.endswith("…: 64 (32–128)")
    assert len(entry) <= 44


@pytest.mark.slow
def test_of_many_values_those_with_most_targets_are_drawn(run):
    """Six lines without bands, and the legend names the others; the unresolved give way first."""
    curves, contexts = class_frames([f"v{number}" for number in range(9)], unresolved=("v8",))
    curves["targets"] = curves["value"].str[1:].astype(int)
    chart = classes.class_chart(run, measured(curves, contexts), "frequency", None)
    assert entries(chart) == [
        *(f"v{number}: 64 (32–128)" for number in range(2, 8)),
        "not drawn: v1, v0, v8",
    ]
    assert all(series.low is None for series in chart.series)
    assert_drawn(chart)


def test_no_such_class(run, monkeypatch):
    """A class or a condition that has no curve is none; a class is drawn under what it has."""
    curves, contexts = class_frames(("top",))
    assert classes.class_chart(run, measured(curves, contexts), "copy", None) is None
    assert classes.class_chart(run, measured(curves, contexts), "frequency", "reverse") is None
    monkeypatch.setattr(classes, "classes", lambda _: (measured(curves, contexts), ()))
    with pytest.raises(UsageError, match="condition 'reverse' was not found; allowed: shuffle"):
        list(classes.plot([run], condition="reverse"))
    monkeypatch.setattr(classes, "classes", lambda _: (measured(curves[:0]), ()))
    with pytest.raises(EmptyChartError, match="no curve of a token class"):
        list(classes.plot([run]))
    unknown = class_frames(("top",), unresolved=("top",))
    monkeypatch.setattr(classes, "classes", lambda _: (measured(*unknown), ()))
    with pytest.raises(EmptyChartError, match="frequency: no value has an answer under truncate"):
        list(classes.plot([run]))
    other = curves[curves["condition"] == "shuffle"]
    monkeypatch.setattr(classes, "classes", lambda _: (measured(other, contexts), ()))
    ((ending, chart),) = classes.plot([run])
    assert (ending, chart.heading[-1]) == ("-frequency", "frequency: shuffle")


# -- information ----------------------------------------------------------------------------------


def contrast_frame():
    """Two contrasts by octave, one of them negative."""
    rows = [
        bins(OCTAVES, height=sign, contrast=name, scale="octave")
        for name, sign in (("truncate − intact", 1), ("shuffle − truncate", -0.5))
    ]
    return pd.concat(rows)


def ratio_frame(resolved=True):
    rows = [
        bins(OCTAVES, condition=name).assign(ratio=height)
        for name, height in (("shuffle", 1.5), ("replace(source='document')", 0.8))
    ]
    frame = pd.concat(rows, ignore_index=True)
    frame["low"], frame["high"] = frame["ratio"] - 0.2, frame["ratio"] + 0.2
    frame["resolved"] = resolved & (frame["distance_from"] < 256)
    frame.loc[~frame["resolved"], ["ratio", "low", "high"]] = np.nan
    return frame.assign(reason="")


def test_contrasts_by_octave(run):
    """One series a contrast, side by side around the middles of the octaves."""
    chart = contrasts.chart(run, contrast_frame())
    assert entries(chart) == ["truncate − intact", "shuffle − truncate"]
    first, second = chart.series
    expected = 1 / (1 + OCTAVES[:-1])
    np.testing.assert_allclose(first.y, expected)
    np.testing.assert_allclose(second.y, -0.5 * expected)
    middles = np.sqrt(np.maximum(OCTAVES[:-1], 1) * OCTAVES[1:])
    np.testing.assert_allclose(np.sqrt(first.x * second.x), middles)
    assert (first.x < second.x).all()
    assert first.barred
    assert_drawn(chart)


def test_only_octaves_are_drawn(run):
    """The table of contrasts has rows by bin as well."""
    table, _ = run.once(contrasts.contrasts)
    assert {"bin", "octave"} == {*table["scale"]}
    ((_, drawn),) = information.plot([run])
    (series, *_) = drawn[0].series
    assert len(series.x) == (table["scale"] == "octave").sum() / table["contrast"].nunique()


def test_ratios_have_a_cross_where_they_are_unresolved(run):
    """Content before order; 1 is named; an octave of each is a cross on the axis."""
    chart = information.chart(run, ratio_frame())
    assert entries(chart) == ["replace(source='document')", "shuffle", "unresolved"]
    (crosses,) = (series for series in chart.series if series.role == "unresolved")
    assert len(crosses.x) == len(set(crosses.x)) == 2
    assert np.isnan(crosses.y).all()
    assert len(chart.series[0].x) == len(OCTAVES) - 2
    assert [rule.label for rule in chart.rules] == ["truncate"]
    assert_drawn(chart)


def test_ratios_none_of_which_is_resolved(run):
    """The axes show 0 and 1, and crosses alone."""
    chart = information.chart(run, ratio_frame(resolved=False))
    assert entries(chart) == ["unresolved"]
    assert chart.y.low < 0 < 1 < chart.y.high
    assert_drawn(chart)


def test_a_long_bar_does_not_flatten_the_others(run):
    """A limit far beyond all ratios is cut."""
    frame = ratio_frame()
    frame.loc[frame.index[3], "high"] = 1000.0
    frame.loc[frame.index[2], "low"] = -1000.0
    chart = information.chart(run, frame)
    assert -4 < chart.y.low < chart.y.high < 4


@pytest.mark.slow
def test_information_is_both_in_one_figure(run):
    """Contrasts above, ratios below, the same distances under one another; or the one there is."""
    upper, lower = contrasts.chart(run, contrast_frame()), information.chart(run, ratio_frame())
    assert (upper.x.low, upper.x.high) == (lower.x.low, lower.x.high)
    assert_drawn(upper, lower)
    with pytest.raises(EmptyChartError, match="no contrast"):
        contrasts.chart(run, contrast_frame()[:0])
    ((_, both),) = information.plot([run])
    assert [chart.heading for chart in both] == [[run.model, run.data]] * 2
    with pytest.raises(
        EmptyChartError,
        match=r"no contrast and no ablated information to draw: .*not scored: 'repl",
    ):
        list(information.plot([run], condition="reverse"))


@pytest.mark.slow
def test_what_is_missing_is_noted(run, tmp_path):
    """Where conditions lack a partner, the figure says which; one chart is drawn alone."""
    ((_, both),) = information.plot([run])
    assert both[0].notes
    assert all("not scored" in line for line in both[0].notes)
    alone = Simulation({"shuffle": CURVES["shuffle"]}, windows=1)
    with (
        open_run(write_run(tmp_path / "run", alone)) as other,
        pytest.raises(EmptyChartError, match="not scored: 'truncate'"),
    ):
        list(information.plot([other]))


# -- tolerance ------------------------------------------------------------------------------------


def tolerance_frame(reach):
    """Lengths that fall with the tolerance: beyond reach at first, those of one unresolved."""
    rows = []
    for condition, longest in (("truncate", 10), ("shuffle", 20)):
        for share in np.geomspace(0.001, 1, 31):
            lengths = [factor * longest / share for factor in (1, 0.7, 1.5)]
            known = [int(length) if length <= reach else pd.NA for length in lengths]
            kind = "unresolved" if share < 0.002 and condition == "truncate" else "length"
            values = [pd.NA] * 3 if kind == "unresolved" else known
            rows.append((condition, share, kind, *values, f"{values[0]}"))
    columns = ["condition", "tolerance", "kind", "length", "low", "high", "short"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(("length", "low", "high"), "Int64"))


def test_length_against_tolerance(run):
    """Known lengths where they are, the reach beyond them, nothing where unresolved."""
    frame = tolerance_frame(run.reach)
    chart = by_tolerance.chart(run, frame)
    own = frame[frame["condition"] == "truncate"]
    line = chart.series[0]
    assert (line.name, line.points) == ("truncate", False)
    np.testing.assert_allclose(line.x, own["tolerance"])
    expected = own["length"].astype("Float64").fillna(run.reach).where(own["kind"] != "unresolved")
    np.testing.assert_allclose(line.y, expected.to_numpy(float, na_value=np.nan))
    assert entries(chart) == ["truncate", "shuffle", "beyond reach", "unresolved"]
    assert [rule.label for rule in chart.rules] == ["reach"]
    beyond = [series for series in chart.series if series.role == "beyond"]
    assert [series.look for series in beyond] == [0, 1]
    assert all((series.y == run.reach).all() for series in beyond)
    assert not set(beyond[0].x) & set(beyond[1].x)  # none hides those of another
    (crosses,) = (series for series in chart.series if series.role == "unresolved")
    assert np.isnan(crosses.y).all()
    assert (crosses.x < 0.002).all()
    assert chart.x.percent
    assert_drawn(chart)


def test_tolerances_that_all_answer(run):
    """Neither beyond reach nor unresolved stands in the legend; 0 has a place where needed."""
    frame = tolerance_frame(run.reach)[lambda rows: rows["tolerance"] > 0.2]
    chart = by_tolerance.chart(run, frame.assign(low=0))
    assert entries(chart) == ["truncate", "shuffle"]
    assert chart.y.ticks[0] == 0
    assert_drawn(chart)
    long = frame.assign(length=128, low=100, high=200)
    assert by_tolerance.chart(run, long).y.low == 64


def test_tolerances_without_an_answer(run):
    """There is nothing to draw; one condition without any is told, as long as another has some."""
    frame = tolerance_frame(run.reach)
    none = frame.assign(kind="unresolved", length=pd.NA, low=pd.NA, high=pd.NA)
    with pytest.raises(EmptyChartError, match="no effective context"):
        by_tolerance.chart(run, none)
    half = pd.concat(
        [none[none["condition"] == "truncate"], frame[frame["condition"] != "truncate"]]
    )
    chart = by_tolerance.chart(run, half)
    assert entries(chart)[:2] == ["truncate", "shuffle"]
    assert chart.series[0].role == "grey"
    assert_drawn(chart)


# -- heat maps ------------------------------------------------------------------------------------


def documents_frame(count):
    return pd.concat(
        bins(height=number - 1.0, document=f"{number:02d} {MARKUP}") for number in range(count)
    )


def heat_map(run, monkeypatch, frame):
    """The heat map of some deltas in place of the run's own."""
    by = "document" if "document" in frame else "position"
    monkeypatch.setattr(documents, f"delta_by_{by}", lambda *_: frame)
    return documents.heat_map(run, None, by)


@pytest.mark.slow
def test_heatmap_by_document(run, monkeypatch):
    """A row a document in order of name, the colour of each cell its delta, and the rest grey."""
    frame = documents_frame(4)
    frame = frame[(frame["distance_from"] < 64) | (frame["document"] > "02")]
    chart = heat_map(run, monkeypatch, frame)
    cells = chart.cells.values
    np.testing.assert_allclose(cells[3], 2.0 / (1 + EDGES[:-1]))
    assert np.isnan(cells[:2, EDGES[:-1] >= 64]).all()
    assert np.isnan(cells).sum() == 2 * (EDGES[:-1] >= 64).sum()
    np.testing.assert_array_equal(chart.cells.x, EDGES)
    assert list(chart.heading) == [run.model, run.data, "truncate"]
    assert (chart.y.low, chart.y.high) == (4, 0)
    assert chart.y.names[0] == f"00 {MARKUP}"
    name = figures.draw(chart).get_yticklabels()[0]
    assert name.get_text() == shortened(f"00 {MARKUP}", 18)
    assert not name.get_parse_math()
    assert_drawn(chart)


@pytest.mark.slow
def test_a_heatmap_of_many_documents_names_none(run, monkeypatch):
    """There is no room for names, so that their number is told."""
    chart = heat_map(run, monkeypatch, documents_frame(40))
    assert chart.y.label == "40 documents"
    assert not chart.y.ticks
    assert_drawn(chart)


def test_heatmap_by_position(run, monkeypatch):
    """Stretches without a target keep their place."""
    frame = pd.concat(
        bins(position_from=start, position_to=start + 100) for start in (1000, 1100, 1400)
    )
    chart = heat_map(run, monkeypatch, frame)
    empty = np.isnan(chart.cells.values)
    assert empty[2:4].all()
    assert not empty[[0, 1, 4]].any()
    assert chart.y.tick_names() == ["1000", "1100", "1200", "1300", "1400", "1500"]
    assert_drawn(chart)


def test_a_heatmap_of_nothing(run, monkeypatch):
    """No cell is nothing to draw; a condition that was not scored is named."""
    with pytest.raises(EmptyChartError, match="no delta"):
        heat_map(run, monkeypatch, documents_frame(2)[:0])
    with pytest.raises(
        UsageError, match=r"condition 'reverse' was not scored; allowed: .*truncate"
    ):
        documents.heat_map(run, "reverse", "document")


# -- colours --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_condition_has_one_colour(tmp_path):
    """In every figure of a run, also where another condition is missing there."""
    curves = {"replace(source='document')": CURVES["shuffle"], **CURVES}
    path = write_run(tmp_path / "run", Simulation(curves, windows=1))
    with open_run(path, write=False) as run:
        charts = [chart for finding in findings(run) for chart in finding.charts]
        charts += [chart for _, chart in by_tolerance.plot([run], condition="shuffle")]
        charts.append(curve.overlay([run], condition="shuffle"))
        colours = {
            (one.name.partition(" − ")[0], one.appearance[0])
            for chart in charts
            for one in chart.series
            if one.name.partition(" − ")[0] in curves
        }
    order = ["truncate", "replace(source='document')", "shuffle"]
    assert colours == {(name, number) for number, name in enumerate(order)}


# -- all ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_back_ends_draw_every_chart_of_a_run(run):
    """With model and data above those that stand alone in a file."""
    charts = [chart for finding in findings(run) for chart in finding.charts]
    assert len(charts) > 8
    for chart in charts:
        assert_drawn(chart)
        assert chart.how
        assert not chart.file or list(chart.heading[:2]) == [run.model, run.data]
