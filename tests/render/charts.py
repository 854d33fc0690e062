"""A sample chart for every picture of the project, and for every feature of a chart."""

from dataclasses import replace

import numpy as np

from probe.findings.chart import (
    Axis,
    Cells,
    Chart,
    Interval,
    Rule,
    Series,
    Strip,
    delta_axis,
    distance_axis,
    linear_axis,
    names_axis,
    position_axis,
)

HOSTILE = "</svg><script>alert('$x$')\u202e\x1b\"\n& co"
"""A name that breaks out of markup, of a line and of a terminal, and is no mathematics."""

EDGES = np.array([*range(8), *np.unique(np.geomspace(8, 1024, 30).astype(int))], dtype=float)
MIDDLES = (EDGES[:-1] + EDGES[1:] - 1) / 2
OCTAVES = np.array([2.7, 11.3, 22.6, 45, 90, 181, 362])
TOLERANCES = [Rule(0.00995, "1 %"), Rule(0.0198, "2 %"), Rule(0.0488, "5 %"), Rule(0.0953, "10 %")]


def falling(height=8.0, seed=0, x=MIDDLES):
    """A delta that falls with distance, unevenly, and its limits."""
    rng = np.random.default_rng(seed)
    y = height / (1 + x) * np.exp(rng.normal(0, 0.25, len(x)))
    width = 0.15 * y + 0.02
    return y, y - width, y + width * rng.uniform(0.8, 1.4, len(x))


def line(name, look=0, height=8.0, x=MIDDLES, **more):
    """A series of a curve, with its band and what its points say."""
    y, low, high = falling(height, look, x)
    titles = [f"{name}, {at:g}: {value:.3f}" for at, value in zip(x, y, strict=True)]
    return Series(name, x, y, look, low, high, titles=titles, **more)


def curve(**changes):
    """Delta against distance: bands, a fit, grey points, noise floor, tolerances, an answer."""
    late = MIDDLES > 500
    fit = MIDDLES, np.minimum.accumulate(falling()[0])
    first = line("truncate", fit=fit, joined=False, points=True)
    second = line("replace(source='document')", 1, 13.0)
    grey = replace(cut(line("shuffle", 2, 20.0), late), name="", role="grey")
    series = [grey, first, second, cut(line("shuffle", 2, 20.0), ~late & (MIDDLES > 120))]
    content = {
        "title": "Delta against distance",
        "x": distance_axis(1024),
        "y": delta_axis([13.0, -0.03], TOLERANCES[0].at),
        "series": series,
        "rules": TOLERANCES,
        "intervals": [Interval(TOLERANCES[0].at, 640, 1024, None, True, "", label="> 640")],
        "floor": Strip(np.array([0.0, 16, 256, 1024]), np.array([0.004, 0.006, 0.003])),
        "legend": [
            ("floor", "noise floor, at most 0.006 nats"),
            ("grey", "less far than near text"),
            ("answer", "truncate, 1 %: > 640"),
        ],
        "heading": ["SmolLM2-135M-Instruct", "stdlib", "24 documents, 24,576 targets"],
    }
    return Chart(**(content | changes))


def cut(series, where):
    """Some of a series' points."""
    parts = {name: getattr(series, name)[where] for name in ("x", "y", "low", "high")}
    titles = [title for title, inside in zip(series.titles, where, strict=True) if inside]
    return replace(series, **parts, titles=titles)


def runs():
    """Two runs of two conditions: colour is the run, dashes and marks are the condition."""
    series = [
        line(f"{run}: {condition}", look, 8.0 * (1 + number + look), colour=number)
        for number, run in enumerate(("small", "large"))
        for look, condition in enumerate(("truncate", "shuffle"))
    ]
    answers = [
        Interval(0.00995, 200, 900, 600, False, "600 (200–900)", look, lane=look) for look in (0, 1)
    ]
    note = [("answer", "effective context, 1 %, by run")]
    return curve(series=series, intervals=answers, legend=note, floor=None)


def points(name, look, x, y, width, **more):
    """Points of their own with bars, the last without limits."""
    low, high = y - width, y + width
    low[-1] = high[-1] = np.nan
    titles = [f"{name}: {value:.3f}" for value in y]
    return Series(name, x, y, look, low, high, titles=titles, joined=False, **more)


def bands():
    """Bands of distances, each a name on the axis."""
    names = ["1–8", "9–64", "65–512", "513–4,096", "4,097–16,384"]
    at = np.arange(5.0)
    series = [
        points("truncate", 0, at - 0.18, np.array([2.0, 0.7, 0.2, 0.06, 0.01]), 0.05),
        points("shuffle", 1, at + 0.18, np.array([1.0, 0.4, 0.1, -0.02, 0.00]), 0.03),
    ]
    label = "perturbed band (tokens before the first target)"
    return Chart("Delta of each band", names_axis(names, label), delta_axis([2, -0.1]), series)


def steps():
    """Bands on the axis of distances: a level stroke each, with gaps between them."""
    x = np.array([1.0, 8, 8, 9, 64, 64, 65, 512, 512, 513, 1024, 1024])
    y = np.column_stack([[2.0, 0.7, 0.2, 0.06]] * 2 + [[np.nan] * 4]).ravel()
    band = Series("truncate", x, y, 0, y * 0.8, y * 1.2, points=True)
    return Chart("Delta of each band", distance_axis(1024), delta_axis([2.0]), [band])


def passages():
    """Passages by name, from the top down."""
    names = ["the question", "document 3 (gold)", HOSTILE, *(f"document {n}" for n in range(4, 9))]
    at, delta = np.arange(8.0), np.array([1.2, 0.8, 0.02, -0.01, 0.0, 0.03, 0.05, -0.02])
    series = []
    for look, (name, shift) in enumerate((("truncate", -0.17), ("shuffle", 0.17))):
        y, x = at + shift, delta / (1 + look)
        series.append(Series(name, x, y, look, x - 0.1, x + 0.1, titles=names, joined=False))
    values = linear_axis([-0.2, 1.4], "delta (nats per token)", include=[0])
    axis = names_axis(names, down=True)
    rules = [Rule(0.1, "10 %")]
    return Chart("Delta by passage", values, axis, series, rules, horizontal=True)


def suffix():
    """Accuracy by length of the prefix, with chance in the legend."""
    x = np.array([0.0, 16, 64, 256, 1024])
    y = np.array([0.24, 0.41, 0.63, 0.77, 0.83])
    series = [Series("model", x, y, 0, y - 0.06, y + 0.06)]
    percent = Axis("gold continuation chosen", 0, 1, ticks=np.arange(0, 1.01, 0.2), percent=True)
    chance = [Rule(0.25, "chance, 25 %", named=True)]
    return Chart("Suffix", distance_axis(1024, label="prefix (tokens)"), percent, series, chance)


def tolerance():
    """Effective context by tolerance: beyond reach at first, unresolved below that."""
    share = np.geomspace(0.001, 1, 31)
    series = []
    for look, longest in enumerate((10, 20)):
        length = np.minimum(longest / share, 512)
        length[:3] = np.nan if look == 0 else 512
        low, high = length * 0.7, np.minimum(length * 1.5, 512)
        name = ("truncate", "shuffle")[look]
        series.append(Series(name, share, length, look, low, high, points=False))
        beyond = share[longest / share > 512][3 + 2 * look :: 3]
        label = "beyond reach" if look == 0 else ""
        series.append(Series(label, beyond, np.full(len(beyond), 512.0), look, role="beyond"))
    nothing = np.full(2, np.nan)
    series.append(Series("unresolved", share[:2], nothing, role="unresolved"))
    ticks = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    x = Axis("tolerance (rise of perplexity)", 0.0009, 1.1, "log", ticks, percent=True)
    y = replace(distance_axis(512, label="effective context (tokens)"), high=700)
    return Chart("Effective context by tolerance", x, y, series, [Rule(512, "reach")])


def contrasts():
    """Contrasts by octave: bars on joined points, both signs."""
    y = 1 / OCTAVES
    pairs = (("truncate − intact", y), ("shuffle − truncate", -y / 2))
    series = [
        Series(name, OCTAVES * (1 + 0.1 * look), v, look, v - 0.02, v + 0.02, bars=True)
        for look, (name, v) in enumerate(pairs)
    ]
    y_axis = delta_axis([0.4, -0.2], 0.01, "contrast (nats per token)")
    return Chart("Contrasts by distance", distance_axis(512, low=1), y_axis, series)


def ratios():
    """Ratios: bars that go beyond the axis, crosses where there is no answer, and a rule at 1."""
    y = np.array([1.5, 1.4, 1.1, 0.9, 0.6])
    high = y + np.array([0.2, 0.3, 0.4, 0.5, 90])
    series = [
        Series("shuffle", OCTAVES[:5], y, 0, y - 0.4, high, bars=True),
        Series("unresolved", OCTAVES[5:], np.full(2, np.nan), role="unresolved"),
    ]
    axis = linear_axis([0, 2.5], "ablated information", include=[0, 1])
    rules = [Rule(1.0, "truncate")]
    return Chart("Ablated information", distance_axis(512, low=1), axis, series, rules)


def tradeoff():
    """Delta by share of the cache: points of families, a frontier, and full attention."""
    share = np.array([1 / 64, 1 / 32, 1 / 8, 1 / 4, 1 / 2])
    delta = np.array([0.9, 0.4, 0.15, 0.04, 0.01])
    series = [
        Series("frontier", share, delta, role="reference", points=False),
        points("local, sinks=4", 0, share, delta, delta / 4),
        points("strided", 1, share[1:], 2 * delta[1:], delta[1:] / 3),
        Series("full attention", np.array([1.0]), np.array([0.0]), role="full", joined=False),
    ]
    ticks = [2.0**power for power in range(-6, 1)]
    x = Axis("share of the KV cache kept", 1 / 64, 1.0, "log", ticks, percent=True)
    return Chart("Cost of attention patterns", x, delta_axis([0.9]), series, TOLERANCES)


def windows():
    """Attention windows against truncation at equal width: few ticks, joined points with bars."""
    widths = np.array([32.0, 64, 128, 256, 512, 1024])
    y = 20 / widths
    series = [
        Series(name, widths * 1.05 ** (look - 1), y, look, y - 0.1, y + 0.2, bars=True)
        for look, name in enumerate(("attend(local(w))", "truncate", "hide"))
    ]
    x = Axis("w: keys in the window, or distance of the far text", 28, 1200, "log", widths)
    return Chart("Windows", x, delta_axis([0.8, -0.05]), series, TOLERANCES)


def classes():
    """Classes of tokens: fits as lines, one of them grey as it has no answer, and a note."""
    series = [
        replace(line("top: 64 (32–128)", 0), y=np.minimum.accumulate(falling()[0])),
        line("rest: 128 (64–256)", 1),
        Series("few: unresolved", MIDDLES, 30 / (1 + MIDDLES), 2, role="grey", points=False),
    ]
    notes = [("", "not drawn: v1, v0, v8")]
    return curve(series=series, legend=notes, floor=None, intervals=[], rules=TOLERANCES[1:2])


def heads():
    """Single heads: layers upwards, one never replaced, dots at those that differ from 0."""
    values = np.random.default_rng(1).normal(0.02, 0.05, (12, 9))
    values[5, 4] = np.nan
    x, y = np.arange(10) - 0.5, np.arange(13) - 0.5
    cells = Cells(x, y, values, "delta (nats per token)", [(1, 2), (7, 10)])
    axes = [
        Axis(name, -0.5, count - 0.5, ticks=list(range(0, count, step)))
        for name, count, step in (("head", 9, 1), ("layer", 12, 2))
    ]
    dots = [("dot", "differs from 0")]
    return Chart("gaussian in place of a head", *axes, cells=cells, legend=dots)


def documents(count=14):
    """Delta by document and distance, rows from the top down, some cells empty."""
    rows = np.linspace(-0.3, 2, count)[:, None] / (1 + EDGES[None, :-1]) ** 0.7
    rows[3, EDGES[:-1] > 64] = np.nan
    names = [
        HOSTILE,
        *(f"document {number:02d} of a long name indeed" for number in range(1, count)),
    ]
    cells = Cells(EDGES, np.arange(count + 1.0) - 0.5, rows, "delta (nats): blue needs far text")
    y = replace(names_axis(names, down=True), low=count - 0.5, high=-0.5)
    return Chart("Delta by document", distance_axis(1024), y, cells=cells)


def importance(count=36):
    """Importance of each token for each target, tokens named at both sides."""
    rng = np.random.default_rng(2)
    values = rng.laplace(0, 0.05, (count, count)) * (rng.random((count, count)) < 0.4)
    values[np.triu_indices(count)] = np.nan
    texts = [f"token{number}"[: 3 + number % 6] for number in range(count)]
    edges = np.arange(count + 1.0) - 0.5
    x = replace(names_axis(texts, "token of the context"), low=-0.5, high=count - 0.5)
    y = replace(names_axis(texts, "target", down=True), low=count - 0.5, high=-0.5)
    return Chart("Importance", x, y, cells=Cells(edges, edges, values, "importance (nats)"))


def many_cells():
    """A heat map of too many cells for a title each."""
    values = np.random.default_rng(3).normal(0, 0.3, (90, 120))
    cells = Cells(np.arange(121.0), np.arange(91.0), values, "importance (nats)")
    ticks = list(range(0, 120, 20))
    x, y = Axis("context", 0, 120, ticks=ticks), Axis("target", 90, 0, ticks=ticks[:5])
    return Chart("Importance", x, y, cells=cells)


def quantiles():
    """A fan of quantiles with the median, far below 0 as well."""
    median = 0.1 / (1 + MIDDLES)
    nothing = np.full(len(MIDDLES), np.nan)
    series = [
        Series(f"middle {share} %", MIDDLES, nothing, 0, -width / 3, width, role=role, points=False)
        for role, share, width in (
            ("fan0", 98, 8 / (1 + MIDDLES) ** 0.5),
            ("fan1", 90, 2 / (1 + MIDDLES) ** 0.5),
            ("fan2", 50, 0.4 / (1 + MIDDLES) ** 0.5),
        )
    ]
    series.append(Series("median", MIDDLES, median, 0))
    return Chart("Quantiles", distance_axis(1024), delta_axis([8, -2.7], 0.01), series)


def positions():
    """Intact loss by position, with its power law."""
    x = np.geomspace(16, 2000, 12)
    y = 5 * x**-0.1
    series = [
        Series("intact loss", x, y + 0.02, 0, y - 0.1, y + 0.1),
        Series("power law", x, y, 1, points=False),
    ]
    y_axis = linear_axis([y.min() - 0.1, y.max() + 0.1], "loss (nats per token)")
    return Chart("Loss by position", position_axis(16, 2000, "position (tokens)"), y_axis, series)


def hostile():
    """Every text of a chart attacks."""
    x = np.array([1.0, 2.0])
    series = [Series(HOSTILE, x, x, titles=[HOSTILE] * 2)]
    rules = [Rule(1.5, HOSTILE), Rule(1.2, HOSTILE, named=True)]
    answer = [Interval(1.5, 1, 2, 1.5, False, HOSTILE, label=HOSTILE)]
    y_axis = linear_axis(x, HOSTILE)
    return Chart(
        HOSTILE,
        names_axis([HOSTILE, "b", "c"], HOSTILE),
        y_axis,
        series,
        rules,
        answer,
        legend=[("", HOSTILE)],
        heading=[HOSTILE],
    )


SAMPLES = {
    make.__name__: make
    for make in (
        *(curve, runs, bands, steps, passages, suffix, tolerance, contrasts, ratios, tradeoff),
        *(windows, classes, heads, documents, importance, many_cells, quantiles, positions),
        hostile,
    )
}
"""Functions that make a sample, by name."""
