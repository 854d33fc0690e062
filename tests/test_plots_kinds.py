"""Figures of frames: what is drawn is what the frame says, and every part can be read."""

import numpy as np
import pandas as pd
import pytest
from figures import assert_readable, labels

from probe import plots
from probe.plots import style

EDGES = np.array([*range(8), 8, 16, 32, 64, 128, 256, 512])
OCTAVES = np.array([0, 8, 16, 32, 64, 128, 256, 512])
MARKUP = "<script>$x$</script> of a very long name indeed"


def bins(edges=EDGES, height=1.0, **columns):
    """One series: a delta that falls with distance, its limits on both sides."""
    delta = height / (1 + edges[:-1])
    frame = pd.DataFrame({"distance_from": edges[:-1], "distance_to": edges[1:]})
    frame = frame.assign(delta=delta, low=delta - 0.02, high=delta + 0.03, fit=delta)
    return frame.assign(targets=100, documents=8, **columns)


def line_of(axes, colour):
    """The points of the first line in a colour."""
    return next(line.get_xydata() for line in axes.lines if line.get_color() == colour)


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
            "text": "64 (32–128)",
        }
        for value in [*values, *(each for each in unresolved if each not in values)]
        for condition in conditions
        for tolerance in ("1%", "2%")
    ]
    return pd.concat(curves, ignore_index=True), pd.DataFrame(contexts)


def test_classes_are_told_with_their_lengths():
    """``truncate`` first, at the first tolerance with an answer; what has none is grey."""
    curves, contexts = class_frames(("top", "rest", "few"), unresolved=("few", "absent"))
    axes = plots.classes(curves, contexts)
    assert axes.get_title(loc="left") == "frequency: truncate"
    assert labels(axes) == [
        "top: 64 (32–128)",
        "rest: 64 (32–128)",
        "few: unresolved",
        "absent: unresolved",
    ]
    assert [text.get_text() for text in axes.texts] == ["2 %"]
    own = curves[(curves["value"] == "few") & (curves["condition"] == "truncate")]
    middle = (own["distance_from"] + own["distance_to"] - 1) / 2
    np.testing.assert_allclose(line_of(axes, style.GREY), np.column_stack([middle, own["delta"]]))
    assert_readable(axes)


def test_classes_without_contexts_have_no_lengths():
    """Nothing is unresolved then, and the legend holds the names alone, cut where too long."""
    curves, _ = class_frames((MARKUP, "rest"))
    axes = plots.classes(curves, condition="shuffle")
    assert labels(axes) == [style.short(MARKUP), "rest"]
    assert not axes.get_legend().get_texts()[0].get_parse_math()
    assert not axes.texts
    assert_readable(axes)


def test_of_many_values_those_with_most_targets_are_drawn():
    """Six lines, and the legend names the others; the unresolved give way first."""
    curves, contexts = class_frames([f"v{number}" for number in range(9)], unresolved=("v8",))
    curves["targets"] = curves["value"].str[1:].astype(int)
    axes = plots.classes(curves, contexts)
    assert labels(axes) == [
        *(f"v{number}: 64 (32–128)" for number in range(2, 8)),
        "not drawn: v1, v0, v8",
    ]
    assert_readable(axes)


def test_no_such_class():
    """A class or a condition that has no curve is named."""
    curves, contexts = class_frames(("top",))
    with pytest.raises(ValueError, match="class 'copy' under the condition None"):
        plots.classes(curves, contexts, name="copy")
    with pytest.raises(ValueError, match="'frequency' under the condition 'reverse'"):
        plots.classes(curves, contexts, condition="reverse")
    with pytest.raises(ValueError, match="no curve"):
        plots.classes(curves[:0])


# -- information ----------------------------------------------------------------------------------


def contrast_frame():
    """Two contrasts by octave, one of them negative, and rows by bin that are not drawn."""
    rows = [
        bins(OCTAVES, height=sign, contrast=name, scale="octave")
        for name, sign in (("truncate − intact", 1), ("shuffle − truncate", -0.5))
    ]
    return pd.concat([*rows, bins(contrast="truncate − intact", scale="bin", height=90)])


def ratio_frame(resolved=True):
    rows = [
        bins(OCTAVES, condition=name).assign(ratio=height)
        for name, height in (("shuffle", 1.5), ("replace(source='document')", 0.8))
    ]
    frame = pd.concat(rows, ignore_index=True)
    frame["low"], frame["high"] = frame["ratio"] - 0.2, frame["ratio"] + 0.2
    frame["resolved"] = resolved & (frame["distance_from"] < 256)
    frame.loc[~frame["resolved"], ["ratio", "low", "high"]] = np.nan
    return frame


def test_contrasts_by_octave():
    """One series a contrast, side by side around the middles of the octaves; bins are left out."""
    axes = plots.contrasts(contrast_frame())
    assert labels(axes) == ["truncate − intact", "shuffle − truncate"]
    first, second = (line_of(axes, style.COLOURS[number]) for number in (0, 1))
    expected = 1 / (1 + OCTAVES[:-1])
    np.testing.assert_allclose(first[:, 1], expected)
    np.testing.assert_allclose(second[:, 1], -0.5 * expected)
    middles = np.sqrt(np.maximum(OCTAVES[:-1], 1) * OCTAVES[1:])
    np.testing.assert_allclose(np.sqrt(first[:, 0] * second[:, 0]), middles)
    assert (first[:, 0] < second[:, 0]).all()
    assert_readable(axes)


def test_ratios_have_a_cross_where_they_are_unresolved():
    """Content before order; 1 is named; two octaves of each are crosses on the axis."""
    axes = plots.ratios(ratio_frame())
    assert labels(axes) == ["replace(source='document')", "shuffle", "unresolved"]
    crosses = line_of(axes, style.GREY)
    assert len(crosses) == 2
    assert (crosses[:, 1] == axes.get_ylim()[0]).all()
    assert len(line_of(axes, style.COLOURS[0])) == len(OCTAVES) - 2
    assert [text.get_text() for text in axes.texts] == ["truncate"]
    assert_readable(axes)


def test_ratios_none_of_which_is_resolved():
    """The axes show 0 and 1, and crosses alone."""
    axes = plots.ratios(ratio_frame(resolved=False))
    assert labels(axes)[-1] == "unresolved"
    assert axes.get_ylim()[0] < 0 < 1 < axes.get_ylim()[1]
    assert_readable(axes)


def test_a_long_bar_does_not_flatten_the_others():
    """A limit far beyond all ratios is cut."""
    frame = ratio_frame()
    frame.loc[frame.index[3], "high"] = 1000.0
    assert plots.ratios(frame).get_ylim()[1] < 4


def test_information_is_both_in_one_figure():
    """Contrasts above, ratios below, the same distances under one another."""
    upper, lower = plots.information(contrast_frame(), ratio_frame())
    assert upper.figure is lower.figure
    assert upper.get_xlim() == lower.get_xlim()
    assert_readable(upper, lower)
    with pytest.raises(ValueError, match="no contrast"):
        plots.contrasts(contrast_frame()[:0])
    with pytest.raises(ValueError, match="no ablated information"):
        plots.ratios(ratio_frame()[:0])


# -- tolerance ------------------------------------------------------------------------------------


def tolerance_frame(reach=512):
    """Lengths that fall with the tolerance: beyond reach at first, those of one unresolved."""
    rows = []
    for condition, longest in (("truncate", 10), ("shuffle", 20)):
        for share in np.geomspace(0.001, 1, 31):
            lengths = [factor * longest / share for factor in (1, 0.7, 1.5)]
            known = [int(length) if length <= reach else pd.NA for length in lengths]
            kind = "unresolved" if share < 0.002 and condition == "truncate" else "length"
            values = [pd.NA] * 3 if kind == "unresolved" else known
            rows.append((condition, share, kind, *values))
    frame = pd.DataFrame(rows, columns=["condition", "tolerance", "kind", "length", "low", "high"])
    return frame.astype(dict.fromkeys(("length", "low", "high"), "Int64"))


def test_length_against_tolerance():
    """Known lengths where they are, the reach beyond them, nothing where unresolved."""
    frame = tolerance_frame()
    axes = plots.tolerance(frame, reach=512)
    own = frame[frame["condition"] == "truncate"]
    drawn = line_of(axes, style.COLOURS[0])
    np.testing.assert_allclose(drawn[:, 0], 100 * own["tolerance"])
    expected = own["length"].astype("Float64").fillna(512).where(own["kind"] != "unresolved")
    np.testing.assert_allclose(drawn[:, 1], expected.to_numpy(float, na_value=np.nan))
    assert labels(axes) == ["truncate", "shuffle", "beyond reach", "unresolved"]
    assert [text.get_text() for text in axes.texts] == ["reach"]
    assert_readable(axes)


def test_tolerances_that_all_answer():
    """Neither beyond reach nor unresolved stands in the legend; 0 has a place."""
    frame = tolerance_frame()[lambda rows: rows["tolerance"] > 0.2]
    axes = plots.tolerance(frame.assign(low=0))
    assert labels(axes) == ["truncate", "shuffle"]
    assert axes.get_yticks()[0] == 0
    assert_readable(axes)


def test_tolerances_without_an_answer():
    """There is nothing to draw; one condition without any is told, as long as another has some."""
    frame = tolerance_frame()
    none = frame.assign(kind="unresolved", length=pd.NA, low=pd.NA, high=pd.NA)
    with pytest.raises(ValueError, match="no effective context"):
        plots.tolerance(none)
    half = pd.concat(
        [none[none["condition"] == "truncate"], frame[frame["condition"] != "truncate"]]
    )
    assert_readable(plots.tolerance(half, reach=512))


# -- heatmap --------------------------------------------------------------------------------------


def documents_frame(count):
    return pd.concat(
        bins(height=number - 1.0, document=f"{number:02d} {MARKUP}", condition="truncate")
        for number in range(count)
    )


def test_heatmap_by_document():
    """A row a document in order of name, the colour of each cell its delta, and the rest grey."""
    frame = documents_frame(4)
    frame = frame[(frame["distance_from"] < 64) | (frame["document"] > "02")]
    axes = plots.heatmap(frame)
    (mesh,) = axes.collections
    cells = mesh.get_array().reshape(4, len(EDGES) - 1)
    np.testing.assert_allclose(cells[3], 2.0 / (1 + EDGES[:-1]))
    assert cells.mask[:2, EDGES[:-1] >= 64].all()
    assert cells.mask.sum() == 2 * (EDGES[:-1] >= 64).sum()
    name = axes.get_yticklabels()[0]
    assert name.get_text() == style.short(f"00 {MARKUP}", 18)
    assert not name.get_parse_math()
    assert axes.get_ylim() == (4, 0)
    assert_readable(axes)


def test_a_heatmap_of_many_documents_names_none():
    """There is no room for names, so that their number is told."""
    axes = plots.heatmap(documents_frame(40))
    assert axes.get_ylabel() == "40 documents"
    assert_readable(axes)


def test_heatmap_by_position():
    """Stretches without a target keep their place."""
    frame = pd.concat(
        bins(condition="truncate", position_from=start, position_to=start + 100)
        for start in (1000, 1100, 1400)
    )
    axes = plots.heatmap(frame)
    (mesh,) = axes.collections
    cells = mesh.get_array().reshape(5, -1)
    assert cells.mask[2:4].all()
    assert not cells.mask[[0, 1, 4]].any()
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("1000", "1100", "1200", "1300", "1400", "1500"),
    ]
    assert_readable(axes)


def test_a_heatmap_is_of_one_condition():
    """Cells of two would hide one another; no cell is nothing to draw."""
    frame = documents_frame(2)
    with pytest.raises(ValueError, match="got truncate, shuffle"):
        plots.heatmap(pd.concat([frame, frame.assign(condition="shuffle")]))
    with pytest.raises(ValueError, match="no delta"):
        plots.heatmap(frame[:0])
