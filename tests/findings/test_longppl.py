"""LongPPL: value and interval against plain loops, its words, who chose the keys, its file."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from longppl_run import TEXT, K, frame, keys_of, texts, write
from open_runs import by_id, opened
from simulated import SCORES, Simulation, write_run

from probe.analysis.open_run import OpenRun
from probe.errors import UsageError
from probe.findings.base import Finding, findings
from probe.findings.key_tokens import KeyRule, Span, key_spans
from probe.findings.longppl import (
    NOTHING_CUT,
    LongPPL,
    alone,
    as_json,
    basis,
    longppl,
    sentence,
    to_record,
)
from probe.findings.table import decimals
from probe.render.page import render
from probe.render.terminal import text
from probe.text import signed, unbroken

ATTACK = "<script>alert(1)</script>"


def told(result: LongPPL) -> str:
    """What `probe keys` prints."""
    return text(alone(result))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "mine", texts(9))


@pytest.mark.parametrize(("lsd", "lcl"), [(2.0, -2.0), (0.5, -1.0), (0.0, -9.0)])
def test_value(folder: Path, lsd: float, lcl: float) -> None:
    """Number, share and mean loss of the keys are those of a filter over all rows."""
    found = longppl(opened(folder), rule=KeyRule(lsd, lcl))
    keys, rows = keys_of(folder, lsd, lcl), frame(folder)
    assert found.keys == found.chosen == len(keys) > 5
    assert found.targets == (rows.condition == "truncate").sum()
    assert found.loss == pytest.approx(keys.nll_intact.mean(), rel=1e-6)
    assert found.perplexity == pytest.approx(np.exp(keys.nll_intact.mean()), rel=1e-6)
    assert found.all_loss == pytest.approx(rows[rows.condition == "intact"].nll.mean(), rel=1e-6)
    assert (found.documents, found.with_keys) == (9, keys.document.nunique())
    assert found.same


def test_the_limits_are_strict(tmp_path: Path) -> None:
    """A token at a limit is not key."""
    run = write(tmp_path / "run", texts(1))
    rows = pq.read_table(run / "scores" / "part.parquet").to_pandas()
    short = (rows.condition == "truncate") & (rows.boundary > 0)
    places = rows.index[short][:4]
    rows.loc[short, ["nll", "nll_intact"]] = 9.0
    pairs = [(3.0, 1.0), (3.25, 1.0), (4.25, 2.0), (4.125, 1.75)]  # LSD 2, 2.25, 2.25, 2.375
    rows.loc[places, ["nll", "nll_intact"]] = pairs
    table = pa.Table.from_pandas(rows, schema=SCORES, preserve_index=False)
    pq.write_table(table, run / "scores" / "part.parquet")
    found = longppl(opened(run))
    assert found.keys == 2
    assert found.loss == pytest.approx((1.0 + 1.75) / 2)


@pytest.mark.slow
def test_interval(folder: Path) -> None:
    """Documents drawn again, the ratio of sums of each draw, deviations stretched."""
    found = longppl(opened(folder))
    keys = keys_of(folder)
    names = sorted(frame(folder).document.unique())
    sums = keys.groupby("document").nll_intact.sum().reindex(names).fillna(0).to_numpy()
    counts = keys.groupby("document").size().reindex(names).fillna(0).to_numpy()
    rng = np.random.default_rng(5)
    drawn = rng.integers(9, size=(300, 9))
    from scipy.stats import norm, t

    stretch = t.ppf(0.95, 8) / norm.ppf(0.95) * np.sqrt(9 / 8)
    mean = sums.sum() / counts.sum()
    draws = mean + stretch * (sums[drawn].sum(1) / counts[drawn].sum(1) - mean)
    assert found.interval == pytest.approx(np.exp(np.quantile(draws, [0.05, 0.95])))
    low, high = found.interval
    assert low < found.perplexity < high
    assert f"90 % interval {low:.2f} to {high:.2f}" in sentence(found)
    other = longppl(opened(folder, resamples=50, seed=1))
    assert other.loss == found.loss
    assert other.interval != found.interval


@pytest.mark.slow
def test_few_documents(tmp_path: Path) -> None:
    """Below six documents with keys the value stands without an interval; without keys, none."""
    run = write(tmp_path / "run", texts(5))
    found = longppl(opened(run))
    assert found.interval is None
    assert f"is {found.perplexity:.2f} (interval unresolved: 5 documents with key" in told(found)
    none = longppl(opened(run), rule=KeyRule(lsd=99))
    assert (none.keys, none.loss, none.perplexity, none.interval) == (0, None, None, None)
    assert "is undefined: no token is a key token (LSD > 99, LCL > −2)." in told(none)
    assert "chosen its own" not in told(none)


def test_nothing_cut_off(tmp_path: Path) -> None:
    """Documents of one short context have no LSD but 0, and no table."""
    run = write(tmp_path / "run", {f"d{n}": TEXT[: 3 * (K + 3)] for n in range(3)})
    found = longppl(opened(run))
    assert found.by_distance.empty
    assert "every document is too short" in told(found)


def test_told(folder: Path) -> None:
    """Sentence, basis, table, and the bias of keys that a model chose for itself."""
    found = longppl(opened(folder))
    text = told(found)
    assert text.splitlines()[0] == sentence(found)
    assert basis(found).startswith(
        f"{found.keys:,} key tokens: {100 * found.keys / found.targets:.2f} % of the"
        f" {found.targets:,} tokens behind the first 8 of 9 documents (LSD > 2, LCL > −2; short"
        " contexts of 8 to 11 tokens). Perplexity of all tokens: "
    )
    assert "- the scored model has chosen its own key tokens: LCL > −2 selects" in text
    assert max(map(len, text.splitlines())) < 400


def test_hostile_names(folder: Path, tmp_path: Path) -> None:
    """What a terminal would obey is escaped."""
    run = write(tmp_path / "run", texts(2))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["model"]["name"] = "a\x1b[31mb"
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert r"LongPPL of a\x1b[31mb on" in told(longppl(opened(run)))


@pytest.mark.slow
def test_file(folder: Path, tmp_path: Path) -> None:
    """The file holds the numbers and the spans as plain values."""
    run = opened(folder)
    found, spans = longppl(run), key_spans(run)
    held = json.loads(as_json(found, spans))
    assert held["longppl"] == pytest.approx(found.perplexity)
    assert held["interval"] == pytest.approx(list(found.interval))
    assert [Span(**span) for span in held["spans"]] == spans
    assert len(held["lsd_by_distance"]) == len(found.by_distance)
    assert "spans" not in to_record(found)
    files = by_id(run)["answer"].files
    assert files["longppl.json"] == to_record(found)


@pytest.fixture(scope="module", name="folders")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models over the same documents, the second with other tokens."""
    place = tmp_path_factory.mktemp("keys")
    return (
        write(place / "mine", texts(9)),
        write(place / "theirs", texts(9), 2, seed=1, model="two"),
    )


def answer_of(run: OpenRun, *others: OpenRun) -> Finding:
    """The answer of the run, told with others."""
    (found,) = [one for one in findings(run, others) if one.id == "answer"]
    return found


@pytest.mark.slow
def test_the_answer_is_longppl(folders: tuple[Path, Path]) -> None:
    """Value, interval, number of key tokens and documents, as `probe keys` gives them."""
    run = opened(folders[0])
    found, answer = longppl(run), answer_of(run)
    low, high = found.interval
    assert answer.sentence.endswith(
        f"is {found.perplexity:.2f} (90 % interval {low:.2f} to {high:.2f})."
    )
    row = [
        *("model-one, run mine (this run)", f"{found.perplexity:.2f}", f"{low:.2f}–{high:.2f}"),
        *(f"{found.keys:,}", f"{found.targets:,}", f"{found.with_keys} of 9"),
    ]
    assert answer.tables[0].rows == [row]
    assert any("chosen its own key tokens" in note for note in answer.caveats)
    assert [one.id for one in findings(run)].count("answer") == 1
    assert all(
        " lower limit)" not in one.sentence and " tokens under " not in one.sentence
        for one in findings(run)
    )


@pytest.mark.slow
def test_the_table_of_lsd_holds_the_frame(folders: tuple[Path, Path]) -> None:
    """Every bin with mean, quantiles, shares and counts of a filter over all rows."""
    table = answer_of(opened(folders[0])).tables[1]
    rows = frame(folders[0])
    rows = rows[(rows.condition == "truncate") & (rows.boundary > 0)]
    assert len(table.rows) == rows.distance.nunique()
    for distances, mean, *others in table.rows:
        first, last = map(int, distances.split("–"))
        assert first == last
        own = rows[rows.distance == first]
        key = (own.lsd > 2) & (-own.nll_intact > -2)
        assert mean == signed(own.lsd.mean(), 3)
        assert others[:6] == [
            signed(own.lsd.quantile(q), 3) for q in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
        ]
        assert others[6:8] == [f"{100 * share.mean():.2f} %" for share in (own.lsd > 2, key)]
        assert others[8:] == [f"{len(own):,}"]


@pytest.mark.slow
def test_key_tokens_are_marked(folders: tuple[Path, Path]) -> None:
    """All and none but the key tokens, each with its LSD and LCL in words."""
    run = opened(folders[0])
    marks = answer_of(run).marks
    assert marks.rule == "LSD > 2, LCL > −2, chosen by model-one (run mine)"
    rows = frame(folders[0])
    for row in rows[(rows.condition == "truncate") & (rows.boundary > 0)].itertuples():
        lsd, nll = row.lsd, row.nll_intact
        expected = f"Key token: LSD {decimals(lsd)}, LCL {decimals(-nll)} nats"
        assert marks.title(lsd, nll) == (expected if lsd > 2 and nll < 2 else None)
    marked = run.connection.execute(f"SELECT count(*) FROM targets WHERE {marks.rows}").fetchone()
    assert marked == (((rows.condition == "truncate") & (rows.boundary > 0)).sum(),)


@pytest.mark.slow
def test_the_rule_is_strict(folders: tuple[Path, Path]) -> None:
    """A token at a limit is not key."""
    title = answer_of(opened(folders[0])).marks.title
    assert title(2.0, 0.5) is None
    assert title(2.5, 2.0) is None
    assert title(2.5, 1.5) == "Key token: LSD 2.500, LCL −1.500 nats"


@pytest.mark.slow
def test_several_runs_choose_for_one_another(folders: tuple[Path, Path]) -> None:
    """Each run is also told with the key tokens of the others, and whose they are."""
    mine, theirs = (opened(folder) for folder in folders)
    answer = answer_of(theirs, mine)
    transferred = longppl(mine, scored=theirs)
    (own, other), lines = answer.tables[0].rows, answer.caveats
    assert own[0] == "model-two, run theirs (this run)"
    assert other[0] == "model-one, run mine"
    assert other[1] == f"{transferred.perplexity:.2f}"
    assert other[3:] == [
        f"{transferred.keys:,}",
        f"{transferred.targets:,}",
        f"{transferred.with_keys} of 9",
    ]
    assert any("transferred from" in line and "(run 'mine')" in line for line in lines)


@pytest.mark.slow
def test_keys_that_cannot_be_transferred(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Another text is a note; a run with another protocol is no chooser."""
    strange = write(tmp_path / "strange", {"x": "another text " * 9}, model="three")
    sweep = write_run(tmp_path / "sweep", Simulation({"truncate": lambda d: 0 * d}))
    others = [opened(folder) for folder in (strange, sweep)]
    answer = answer_of(opened(folders[0]), *others)
    assert len(answer.tables[0].rows) == 1
    assert any(
        line.startswith("key tokens of model-three (run strange) cannot be transferred: ")
        for line in answer.caveats
    )
    assert answer_of(opened(sweep), *others).marks is None


@pytest.mark.slow
def test_no_key_and_no_short_context(tmp_path: Path) -> None:
    """Documents of one short context have neither LSD nor key tokens."""
    run = write(tmp_path / "run", {f"d{n}": "the cat sat on a mat, and then " for n in range(3)})
    answer = answer_of(opened(run))
    assert [table.caption for table in answer.tables] == [
        "LongPPL, by the run that chose the key tokens"
    ]
    assert answer.tables[0].rows[0][1:4] == ["–", "–", "0"]
    assert NOTHING_CUT in answer.caveats


@pytest.mark.slow
def test_what_stands_on_the_page(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The answer once, key tokens marked as they are counted; of names nothing is an element."""
    run = opened(folders[0])
    every = findings(run)
    page = render([run], [every])
    sentence_ = answer_of(run).sentence
    assert unbroken(sentence_) in page
    assert page.count('id="answer"') == 1
    assert "Key token: LSD" in page
    folder = shutil.copytree(folders[0], tmp_path / "run")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record |= {"name": f"{ATTACK}\u202e", "model": {"name": ATTACK}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run = opened(folder)
    page = render([run], [findings(run)])
    assert re.findall("<script>", page) == ["<script>"]
    assert "\u202e" not in page
    assert "chosen by &lt;script&gt;" in page


@pytest.mark.slow
def test_another_protocol_is_refused(tmp_path: Path) -> None:
    """A sweep has no LongPPL, and its finding is none of its own."""
    run = opened(write_run(tmp_path / "run", Simulation({"truncate": lambda d: 3 / (1 + d)})))
    with pytest.raises(UsageError, match="has protocol 'sweep'; allowed for LongPPL: longppl"):
        longppl(run)
    every = findings(run)
    assert all(one.marks is None for one in every)
    page = render([run], [every])
    assert 'class="key"' not in page
    assert "LongPPL" not in page


@pytest.mark.parametrize("name", ["lsd", "lcl"])
def test_a_rule_is_finite(name: str) -> None:
    """A rule that no token can meet is a mistake."""
    with pytest.raises(UsageError, match=f"{name} is nan; allowed: a finite number of nats"):
        KeyRule(**{name: math.nan})
