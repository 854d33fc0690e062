"""LongPPL from a run folder: keys, spans, carrying over and interval against plain loops."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe.analysis.key_answer import answer, basis, sentence, to_record, write_answer
from probe.analysis.keys import KeyRule, Span, inside, key_spans, merged
from probe.analysis.longppl import longppl
from probe.analysis.lsd import COLUMNS, lsd_table
from simulated import SCORES, WINDOWS

from probe.analysis.settings import Analysis
from probe.errors import ProbeError, UsageError
from probe.results.folder import read_folder

K, STRIDE = 8, 4
TEXT = "the cat sat on a mat and then ran far away from home "


def write(
    folder: Path,
    documents: dict[str, str],
    size: int = 3,
    *,
    seed: int = 0,
    model: str = "one",
    skip: int = 0,
    text: bool = True,
    spread: float = 2.0,
) -> Path:
    """A longppl run whose tokens are *size* characters each, with random losses.

    Args:
        folder: Where it goes.
        documents: Texts by name.
        size: Characters of a token.
        seed: Of the losses.
        model: Name of the model.
        skip: Characters at the start that no token has.
        text: Whether the windows keep their text.
        spread: Standard deviation of LSD.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    kept = []
    for name, whole in documents.items():
        tokens = [whole[at : at + size] for at in range(skip, len(whole), size)]
        starts = [size * number for number in range(len(tokens))]
        kept.append(
            {
                "document": name,
                "window": 0,
                "start": 0,
                "token_ids": [hash_of(token) for token in tokens],
                "char_start": starts if text else [],
                "char_end": [s + len(t) for s, t in zip(starts, tokens, strict=True)]
                if text
                else [],
                "text": whole[skip:] if text else None,
            }
        )
        nll = rng.gamma(1.5, 1.2, size=len(tokens))
        places = {"document": name, "window": 0, "repeat": 0}
        for position, loss in enumerate(nll):
            places |= {"position": position, "nll_intact": loss}
            rows.append(
                places
                | {"condition": "intact", "nll": loss}
                | dict.fromkeys(["far_start", "boundary", "distance"], -1)
            )
            if position >= K:
                start = (position - K) // STRIDE * STRIDE
                lsd = rng.normal(0.5, spread) if start else 0.0
                rows.append(
                    places
                    | {"condition": "truncate", "nll": loss + lsd, "distance": position - start}
                    | {"boundary": start, "far_start": start}
                )
    (folder / "scores").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORES), folder / "scores" / "part.parquet")
    pq.write_table(pa.Table.from_pylist(kept, schema=WINDOWS), folder / "windows.parquet")
    record = {
        "name": folder.name,
        "status": "complete",
        "config": {
            "protocol": {"kind": "longppl", "context": K, "stride": STRIDE},
            "analysis": {"resamples": 300, "confidence": 0.9},
            "seed": 5,
        },
        "model": {"name": f"model-{model}", "path": model, "revision": None},
        "data": {"name": "made-up"},
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def hash_of(token: str) -> int:
    return sum(ord(sign) * 31**number for number, sign in enumerate(token)) % 50_000


def texts(count: int, length: int = 240) -> dict[str, str]:
    return {f"doc{n}": (TEXT[n:] + TEXT * 9)[: length + 7 * n] for n in range(count)}


def frame(folder: Path) -> pd.DataFrame:
    rows = pq.read_table(folder / "scores" / "part.parquet").to_pandas()
    rows = rows.astype({"document": str, "condition": str, "nll": float, "nll_intact": float})
    return rows.assign(lsd=rows.nll - rows.nll_intact)


def keys_of(folder: Path, lsd: float = 2.0, lcl: float = -2.0) -> pd.DataFrame:
    """The key rows by definition."""
    rows = frame(folder)
    return rows[(rows.condition == "truncate") & (rows.lsd > lsd) & (-rows.nll_intact > lcl)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "mine", texts(9))


@pytest.mark.parametrize(("lsd", "lcl"), [(2.0, -2.0), (0.5, -1.0), (0.0, -9.0)])
def test_value(folder: Path, lsd: float, lcl: float) -> None:
    """Number, share and mean loss of the keys are those of a filter over all rows."""
    found = longppl(folder, rule=KeyRule(lsd, lcl))
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
    found = longppl(run)
    assert found.keys == 2
    assert found.loss == pytest.approx((1.0 + 1.75) / 2)


def test_interval(folder: Path) -> None:
    """Documents drawn again, the ratio of sums of each draw, deviations stretched."""
    found = longppl(folder)
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
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.05, 0.95]))
    low, high = found.interval
    assert low < found.perplexity < high
    assert f"90 % interval {low:.2f}–{high:.2f}" in sentence(found)
    other = longppl(folder, analysis=Analysis(resamples=50, seed=1))
    assert other.loss == found.loss
    assert other.interval != found.interval


def test_few_documents(tmp_path: Path) -> None:
    """Below six documents with keys the value stands without an interval; without keys, none."""
    run = write(tmp_path / "run", texts(5))
    found = longppl(run)
    assert found.interval is None
    assert f"is {found.perplexity:.2f} (interval unresolved: 5 documents with key" in answer(found)
    none = longppl(run, rule=KeyRule(lsd=99))
    assert (none.keys, none.loss, none.perplexity, none.interval) == (0, None, None, None)
    assert "has no value: no token is key (LSD > 99, LCL > -2)." in answer(none)
    assert "chosen its own" not in answer(none)


# -- spans ----------------------------------------------------------------------------------------


def test_spans(folder: Path) -> None:
    """Every key token lies in one span, no other token does, and spans do not touch."""
    found = key_spans(read_folder(folder))
    keys = keys_of(folder)
    covered = [(s.document, s.position + n) for s in found for n in range(s.tokens)]
    assert covered == sorted(zip(keys.document, keys.position, strict=True))
    windows = pq.read_table(folder / "windows.parquet").to_pandas().set_index("document")
    ends: dict[str, int] = {}
    for span in found:
        row = windows.loc[span.document]
        assert span.char_start == row.char_start[span.position]
        assert span.char_end == row.char_end[span.position + span.tokens - 1]
        assert span.text == row.text[span.char_start : span.char_end]
        assert span.position > ends.get(span.document, -1) + 1
        ends[span.document] = span.position + span.tokens - 1


def test_spans_without_text(tmp_path: Path) -> None:
    """Tokenised data has positions and no characters."""
    run = write(tmp_path / "run", texts(2), text=False)
    found = key_spans(read_folder(run))
    assert found
    assert {(s.char_start, s.char_end, s.text) for s in found} == {(-1, -1, None)}


@given(st.sets(st.integers(0, 30)))
def test_merged(places: set[int]) -> None:
    """The rows of consecutive numbers hold every number once, with a gap between two."""
    found = merged(np.array(sorted(places), dtype=np.int64))
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(places)
    assert all(found[n][1] + 1 < found[n + 1][0] for n in range(len(found) - 1))


@given(st.data())
def test_inside(data: st.DataObject) -> None:
    """A token lies in a span when all of its characters do; brute force over all pairs."""
    size = data.draw(st.integers(1, 20))
    bounds = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted).map(tuple)
    tokens = np.array(sorted(data.draw(st.lists(bounds, min_size=size, max_size=size))))
    edges = sorted(data.draw(st.sets(st.integers(0, 12), max_size=8)))
    chosen = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    found = inside(tokens[:, 0], tokens[:, 1], chosen)
    expected = [b > a and any(s <= a and b <= e for s, e in chosen) for a, b in tokens.tolist()]
    assert found.tolist() == expected


# -- keys of one run, losses of another -----------------------------------------------------------


def test_same_tokens(folder: Path, tmp_path: Path) -> None:
    """With the same tokens keys are carried by position."""
    other = write(tmp_path / "other", texts(9), seed=1, model="two")
    found = longppl(folder, scored=other)
    keys = keys_of(folder)[["document", "position"]]
    losses = frame(other).query("condition == 'intact'").merge(keys)
    assert found.keys == found.chosen == len(keys)
    assert found.loss == pytest.approx(losses.nll.mean(), rel=1e-6)
    assert found.targets == (frame(other).condition == "intact").sum()
    assert not found.same
    text = answer(found)
    assert f"LongPPL of model-two on made-up is {found.perplexity:.2f} (" in text
    assert f"carried over from {len(keys):,} of model-one (run 'mine')" in text
    assert "chosen its own" not in text
    assert "chosen its own" in answer(longppl(folder, scored=folder))


@pytest.mark.parametrize(("size", "skip"), [(2, 0), (5, 0), (4, 0), (2, 2)])
def test_other_tokens(folder: Path, tmp_path: Path, size: int, skip: int) -> None:
    """A token is key when each of its characters is one of a key token's; adjacent keys merge."""
    blank = {name: " " * skip + text for name, text in texts(9).items()}
    other = write(tmp_path / "other", blank, size, seed=1, skip=skip, model="two")
    found = longppl(folder, scored=other)
    keys = keys_of(folder)
    windows = pq.read_table(other / "windows.parquet").to_pandas()
    losses = frame(other).query("condition == 'intact'").set_index(["document", "position"]).nll
    expected = []
    for row in windows.itertuples():
        positions = keys[keys.document == row.document].position
        covered = {3 * p + n for p in positions for n in range(3)}
        expected += [
            losses[row.document, number]
            for number, (a, b) in enumerate(zip(row.char_start, row.char_end, strict=True))
            if set(range(a, b)) <= covered
        ]
    assert found.keys == len(expected)
    assert found.loss == (pytest.approx(np.mean(expected), rel=1e-6) if expected else None)


def test_what_the_other_run_lacks(folder: Path, tmp_path: Path) -> None:
    """Documents that are missing, and keys behind a cut, are left out and said."""
    shorter = {name: text[:150] for name, text in texts(7).items()}
    for number, size in enumerate((3, 2)):
        other = write(tmp_path / f"other{number}", shorter, size, seed=1, model="two")
        found = longppl(folder, scored=other)
        keys = keys_of(folder)
        keys = keys[keys.document.isin(list(shorter))]
        behind = int((keys.position >= 50).sum())
        assert found.documents == 7
        *others, last = found.warnings
        assert others[0] == f"2 of 9 documents are not in '{other}': left out"
        assert last == f"{behind} key tokens lie behind what '{other}' holds of their documents"
        assert all("the tokenizers cut the text differently" in line for line in others[1:])
        assert all(line in answer(found) for line in found.warnings)
        if size == 3:
            assert found.keys == (keys.position < 50).sum()


def test_refusals(folder: Path, tmp_path: Path) -> None:
    """Other documents, other texts, no text, another protocol: one line each."""
    strange = write(tmp_path / "strange", {"x": TEXT * 3}, model="two")
    with pytest.raises(ProbeError, match="has none of the 9 documents whose keys were chosen"):
        longppl(folder, scored=strange)
    turned = write(tmp_path / "turned", {n: t[::-1] for n, t in texts(9).items()}, 2)
    with pytest.raises(ProbeError, match="document 'doc0' has another text in"):
        longppl(folder, scored=turned)
    bare = write(tmp_path / "bare", texts(9), 2, text=False)
    with pytest.raises(ProbeError, match=r"document 'doc0' has other tokens in .*, and no text"):
        longppl(folder, scored=bare)
    record = json.loads((bare / "run.json").read_text(encoding="utf-8"))
    record["config"]["protocol"] = {"kind": "sweep"}
    (bare / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match="has protocol 'sweep'; allowed for LongPPL: longppl"):
        longppl(bare)
    assert list(lsd_table(read_folder(bare)).columns) == list(COLUMNS)


# -- LSD by distance ------------------------------------------------------------------------------


def test_lsd_by_distance(folder: Path) -> None:
    """Means, quantiles and shares of each distance, where something was cut off."""
    found = lsd_table(read_folder(folder))
    rows = frame(folder)
    rows = rows[(rows.condition == "truncate") & (rows.boundary > 0)]
    assert found.distance_from.tolist() == list(range(K, K + STRIDE))
    for row in found.itertuples():
        own = rows[rows.distance == row.distance_from]
        assert (row.targets, row.documents) == (len(own), own.document.nunique())
        quantiles = np.quantile(own.lsd, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
        ours = [getattr(row, name) for name in ("q05", "q25", "q50", "q75", "q95", "q99")]
        assert ours == pytest.approx(quantiles.tolist(), abs=1e-6)
        assert row.mean == pytest.approx(own.lsd.mean(), abs=1e-6)
        assert row.above == pytest.approx((own.lsd > 2).mean())
        assert row.key == pytest.approx(((own.lsd > 2) & (own.nll_intact < 2)).mean())


def test_nothing_cut_off(tmp_path: Path) -> None:
    """Documents of one short context have no LSD but 0, and no table."""
    run = write(tmp_path / "run", {f"d{n}": TEXT[: 3 * (K + 3)] for n in range(3)})
    found = longppl(run)
    assert found.by_distance.empty
    assert "every document is too short" in answer(found)


# -- words and files ------------------------------------------------------------------------------


def test_answer(folder: Path) -> None:
    """Sentence, basis, table, and the bias of keys that a model chose for itself."""
    found = longppl(folder)
    text = answer(found)
    assert text.splitlines()[0] == sentence(found)
    assert basis(found).startswith(
        f"{found.keys:,} key tokens: {100 * found.keys / found.targets:.2f} % of the"
        f" {found.targets:,} tokens behind the first 8 of 9 documents (LSD > 2, LCL > -2; short"
        " contexts of 8 to 11 tokens). Perplexity of all tokens: "
    )
    assert "- the scored model has chosen its own key tokens: LCL > -2 keeps" in text
    assert max(map(len, text.splitlines())) < 400


def test_hostile_names(folder: Path, tmp_path: Path) -> None:
    """What a terminal would obey is escaped."""
    run = write(tmp_path / "run", texts(2))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["model"]["name"] = "a\x1b[31mb"
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert r"LongPPL of a\x1b[31mb on" in answer(longppl(run))


def test_file(folder: Path, tmp_path: Path) -> None:
    """The file holds the numbers and the spans as plain values, whole or not at all."""
    found, spans = longppl(folder), key_spans(read_folder(folder))
    write_answer(tmp_path / "keys.json", found, spans)
    held = json.loads((tmp_path / "keys.json").read_text(encoding="utf-8"))
    assert held["longppl"] == pytest.approx(found.perplexity)
    assert held["interval"] == pytest.approx(list(found.interval))
    assert [Span(**span) for span in held["spans"]] == spans
    assert len(held["lsd_by_distance"]) == len(found.by_distance)
    assert "spans" not in to_record(found)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]
