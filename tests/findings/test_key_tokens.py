"""Key tokens: spans, their transfer to other runs and LSD by distance, against plain loops."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longppl_run import STRIDE, TEXT, K, frame, keys_of, texts, write
from open_runs import opened

from probe.errors import ProbeError, UsageError
from probe.findings.key_tokens import LSD_COLUMNS, inside, key_spans, lsd_table, merged
from probe.findings.longppl import LongPPL, alone, longppl
from probe.render.terminal import text


def told(result: LongPPL) -> str:
    """What `probe keys` prints."""
    return text(alone(result))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "mine", texts(9))


def test_spans(folder: Path) -> None:
    """Every key token lies in one span, no other token does, and spans do not touch."""
    found = key_spans(opened(folder))
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
    found = key_spans(opened(run))
    assert found
    assert {(s.char_start, s.char_end, s.text) for s in found} == {(-1, -1, None)}


@given(st.sets(st.integers(0, 30)))
def test_merged(places: set[int]) -> None:
    """The rows of consecutive numbers hold every number once, with a gap between two."""
    found = merged(np.array(sorted(places), dtype=np.int64))
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(places)
    assert all(found[n][1] + 1 < found[n + 1][0] for n in range(len(found) - 1))


@pytest.mark.slow
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


@pytest.mark.slow
def test_same_tokens(folder: Path, tmp_path: Path) -> None:
    """With the same tokens keys are carried by position."""
    other = write(tmp_path / "other", texts(9), seed=1, model="two")
    found = longppl(opened(folder), scored=opened(other))
    keys = keys_of(folder)[["document", "position"]]
    losses = frame(other).query("condition == 'intact'").merge(keys)
    assert found.keys == found.chosen == len(keys)
    assert found.loss == pytest.approx(losses.nll.mean(), rel=1e-6)
    assert found.targets == (frame(other).condition == "intact").sum()
    assert not found.same
    text = told(found)
    assert f"LongPPL of model-two on made-up is {found.perplexity:.2f} (" in text
    assert f"transferred from {len(keys):,} of model-one (run 'mine')" in text
    assert "chosen its own" not in text
    assert "chosen its own" in told(longppl(opened(folder), scored=opened(folder)))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "skip"), [(2, 0), (5, 0), (4, 0), (2, 2)])
def test_other_tokens(folder: Path, tmp_path: Path, size: int, skip: int) -> None:
    """A token is key when each of its characters is one of a key token's; adjacent keys merge."""
    blank = {name: " " * skip + text for name, text in texts(9).items()}
    other = write(tmp_path / "other", blank, size, seed=1, skip=skip, model="two")
    found = longppl(opened(folder), scored=opened(other))
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


@pytest.mark.slow
def test_what_the_other_run_lacks(folder: Path, tmp_path: Path) -> None:
    """Documents that are missing, and keys behind a cut, are left out and said."""
    shorter = {name: text[:150] for name, text in texts(7).items()}
    for number, size in enumerate((3, 2)):
        other = write(tmp_path / f"other{number}", shorter, size, seed=1, model="two")
        found = longppl(opened(folder), scored=opened(other))
        keys = keys_of(folder)
        keys = keys[keys.document.isin(list(shorter))]
        behind = int((keys.position >= 50).sum())
        assert found.documents == 7
        *others, last = found.warnings
        assert others[0] == f"2 of 9 documents are not in '{other}': left out"
        assert last == f"{behind} key tokens are beyond the part of their documents in '{other}'"
        assert all("the tokenizers cut the text differently" in line for line in others[1:])
        assert all(line in told(found) for line in found.warnings)
        if size == 3:
            assert found.keys == (keys.position < 50).sum()


@pytest.mark.slow
def test_refusals(folder: Path, tmp_path: Path) -> None:
    """Other documents, other texts, no text, another protocol: one line each."""
    strange = write(tmp_path / "strange", {"x": TEXT * 3}, model="two")
    with pytest.raises(ProbeError, match="has none of the 9 documents whose keys were chosen"):
        longppl(opened(folder), scored=opened(strange))
    turned = write(tmp_path / "turned", {n: t[::-1] for n, t in texts(9).items()}, 2)
    with pytest.raises(ProbeError, match="document 'doc0' has another text in"):
        longppl(opened(folder), scored=opened(turned))
    bare = write(tmp_path / "bare", texts(9), 2, text=False)
    with pytest.raises(ProbeError, match=r"document 'doc0' has other tokens in .*, and no text"):
        longppl(opened(folder), scored=opened(bare))
    record = json.loads((bare / "run.json").read_text(encoding="utf-8"))
    record["config"]["protocol"] = {"kind": "sweep"}
    (bare / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match="has protocol 'sweep'; allowed for LongPPL: longppl"):
        longppl(opened(bare))
    assert list(lsd_table(opened(bare)).columns) == list(LSD_COLUMNS)


def test_lsd_by_distance(folder: Path) -> None:
    """Means, quantiles and shares of each distance, where something was cut off."""
    found = lsd_table(opened(folder))
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
