"""The class table: one row a token, worked out once, kept beside the windows."""

import gc
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from class_runs import HOW, TYPES, simulation, window_of, window_rows, word_run
from simulated import Simulation

from probe.analysis.open_run import open_run
from probe.classes import registry
from probe.classes.builtin import DEFAULTS
from probe.classes.class_sums import ClassSums
from probe.classes.curves import class_curves
from probe.classes.registry import DISTANCES, choose
from probe.classes.source import BATCH
from probe.classes.table import classify, default_classes, read_labels
from probe.classes.tokens import WindowTokens
from probe.errors import ProbeError, UnwrittenWarning
from probe.findings.base import counters
from probe.findings.classes import asked
from probe.results.folder import RunFolder, read_folder

SMALL = Simulation(
    {"truncate": np.zeros_like}, documents=6, windows=3, length=40, boundaries=(20,), reach=20
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return word_run(tmp_path / "run", SMALL)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Windows on which the class ``watched`` was called; it has a version."""
    registry.load_builtins()
    monkeypatch.setattr(registry.REGISTRY, "entries", dict(registry.REGISTRY.entries))
    called: list[str] = []

    @registry.register("watched", version=lambda: "1")
    def watched(window: WindowTokens) -> list[bool]:
        called.append(f"{window.document}/{window.window}")
        return (window.ids == 1).tolist()

    return called


def read(path: Path) -> pd.DataFrame:
    return pq.read_table(path).to_pandas()


def test_rows(run: RunFolder) -> None:
    """Each token of each window has its row, with what the predicates say of it."""
    table = classify(run, ["kind", "copy(edges=[1])", "last_occurrence"])
    assert table.path == run.path / "classes.parquet"
    assert table.classes == ("kind", "copy(edges=[1])", "last_occurrence")
    found = read(table.path)
    rows = window_rows(run)
    assert len(found) == sum(len(row["token_ids"]) for row in rows)
    for row in rows:
        part = found[(found["document"] == row["document"]) & (found["window"] == row["window"])]
        window = window_of([TYPES[number] for number in row["token_ids"]])
        length, distance = window.copies
        expected: dict[str, Any] = {
            "position": row["start"] + np.arange(SMALL.length),
            "last_occurrence_distance": window.last_occurrence,
            "copy_length": length,
            "copy_distance": distance,
        }
        expected |= {one.text: one.labels(window) for one in choose(table.classes)}
        for name, values in expected.items():
            assert part[name].tolist() == list(values), name


def test_schema(run: RunFolder) -> None:
    """Columns and types are those of the docstring; texts are dictionaries."""
    schema = pq.read_schema(classify(run, ["subword"]).path)
    text = pa.dictionary(pa.int32(), pa.string())
    integers = ["window", "position", "last_occurrence_distance", "copy_length", "copy_distance"]
    expected = [("document", text), *((name, pa.int32()) for name in integers), ("subword", text)]
    assert [(field.name, field.type) for field in schema] == expected


def test_computed_once(run: RunFolder, calls: list[str]) -> None:
    """What is there is not worked out again, also when another class is added."""
    first = classify(run, ["watched", "kind"])
    assert len(calls) == len(window_rows(run)) > BATCH
    before = first.path.read_bytes()
    again = classify(run, ["watched"])
    assert len(calls) == len(window_rows(run))
    assert again.path.read_bytes() == before
    more = classify(run, ["copy", "watched"])
    assert len(calls) == len(window_rows(run))
    assert more.classes == ("copy", "watched")
    found = read(more.path)
    assert {"kind", "watched", "copy"} <= set(found)
    plain = read(classify(run, ["kind", "watched", "copy"], write=False).path)
    pd.testing.assert_frame_equal(found, plain)


def test_a_class_without_a_version_is_worked_out_again(run: RunFolder, calls: list[str]) -> None:
    """A notebook's function may have changed; its column is replaced, the others stay."""
    answers = iter("ab")

    @registry.register("mine")
    def mine(window: WindowTokens) -> list[str]:
        return [answer] * len(window)

    for _ in range(2):
        answer = next(answers)
        found = read(classify(run, ["mine", "watched"]).path)
        assert set(found["mine"]) == {answer}
    assert len(calls) == len(window_rows(run))


def test_a_kept_class_serves_where_this_machine_cannot_tell(
    run: RunFolder, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty version, as without spaCy, takes the column that is there; another one does not."""
    classify(run, ["watched"])
    entry = registry.get("watched")
    for version, times in (("", 1), ("1", 1), ("2", 2)):
        changed = registry.Entry(
            "watched", entry.function, "", (), version=lambda version=version: version
        )
        monkeypatch.setitem(registry.REGISTRY.entries, "watched", changed)
        classify(run, ["watched"])
        assert len(calls) == times * len(window_rows(run))


@pytest.mark.parametrize("what", ["windows", "frequencies", "groups"])
def test_another_state(run: RunFolder, calls: list[str], what: str) -> None:
    """Other windows, counts or groups: everything is worked out again, nothing else is kept."""
    classify(run, ["watched", "kind"])
    if what == "windows":
        table = pq.read_table(run.path / "windows.parquet")
        pq.write_table(table.slice(0, 5), run.path / "windows.parquet")
    elif what == "frequencies":
        counts = pa.table({"token_id": [1], "count": [9]})
        pq.write_table(counts, run.path / "frequencies.parquet")
    else:
        record = json.loads((run.path / "run.json").read_text("utf-8"))
        record["data"]["documents"][0]["group"] = "other"
        (run.path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    calls.clear()
    table = classify(read_folder(run.path), ["watched"])
    assert len(calls) == len(window_rows(run))
    assert "kind" not in pq.read_schema(table.path).names


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "pages", "groups"])
def test_a_damaged_table(run: RunFolder, calls: list[str], damage: str) -> None:
    """A table that cannot be used is made anew."""
    path = classify(run, ["kind"]).path
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.touch()
        path.write_bytes(b"")
    elif damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif damage == "pages":
        path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    else:  # the footer of a table of other windows
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=7)
    found = read(classify(run, ["kind", "watched"]).path)
    plain = read(classify(run, ["kind", "watched"], write=False).path)
    pd.testing.assert_frame_equal(found, plain)


@pytest.mark.slow
def test_nothing_is_written_where_nothing_may_be(run: RunFolder) -> None:
    """The table is then temporary, and goes with the value that names it."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    table = classify(run, ["kind"], write=False)
    path = table.path
    assert len(read(path)) == 6 * 3 * 40
    assert run.path not in path.parents
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    del table
    gc.collect()
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_written(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which no file can be made is read all the same, with a warning."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "taken")
    (run.path / ".probe.taken.tmp").mkdir()
    with pytest.warns(UnwrittenWarning, match=r"run/classes\.parquet: Is a directory$"):
        table = classify(run, ["kind"])
    assert len(read(table.path)) == 6 * 3 * 40
    assert not (run.path / "classes.parquet").exists()


def test_a_predicate_that_fails_leaves_nothing(run: RunFolder, calls: list[str]) -> None:
    """The table is there whole or not at all."""
    before = classify(run, ["kind"]).path.read_bytes()

    @registry.register("breaks")
    def breaks(window: WindowTokens) -> list[str]:
        if window.document == "doc005":
            raise RuntimeError("no\nmore")
        return ["a"] * len(window)

    with pytest.raises(ProbeError, match="'doc005': RuntimeError: no more"):
        classify(run, ["breaks"])
    assert (run.path / "classes.parquet").read_bytes() == before
    assert not list(run.path.rglob("*.tmp"))


def test_frequencies(run: RunFolder) -> None:
    """Types are ranked by the data set's counts; an old run's by its windows, and it says so."""
    table = classify(run, ["frequency(top=0.3)", "kind"])
    assert table.notes == (
        "the run has no frequencies.parquet: types are counted in the windows' own tokens",
    )
    assert classify(run, ["kind"]).notes == ()
    rows = window_rows(run)
    ids = np.concatenate([row["token_ids"] for row in rows])
    counts = pd.Series(ids).value_counts()
    most = set(sorted(counts.index, key=lambda number: (-counts[number], number))[:4])
    expected = ["frequent" if number in most else "rare" for number in ids]
    assert read(table.path)["frequency(top=0.3)"].tolist() == expected
    # In the whole data set the last type is the most frequent of all.
    counted = pa.table({"token_id": [len(TYPES) - 1, 0], "count": [1000, 1]})
    pq.write_table(counted, run.path / "frequencies.parquet")
    table = classify(run, ["frequency(top=0.3)"])
    assert table.notes == ()
    expected = ["frequent" if number == len(TYPES) - 1 else "rare" for number in ids]
    assert read(table.path)["frequency(top=0.3)"].tolist() == expected
    (run.path / "frequencies.parquet").write_bytes(b"PAR1")
    (note,) = classify(run, ["frequency"]).notes
    assert note.startswith("frequencies.parquet cannot be read: types are counted")


def test_names_that_a_query_would_stumble_over(run: RunFolder, tmp_path: Path) -> None:
    """A path with dots, quotes and signs of SQL is a column like any other, also when kept."""
    file = tmp_path / 'a "b"; DROP --.x.py'
    file.write_text("def f(window):\n    return [True] * len(window)\n", encoding="utf-8")
    name = f"{file}:f"
    for names in ([name], ["kind", name], [name, "copy"]):
        found = read(classify(run, names).path)
        assert set(found[name]) == {"yes"}
    quoted = name.replace('"', '""')
    path = str(run.path / "classes.parquet")
    count = duckdb.execute(f'SELECT count("{quoted}") FROM read_parquet($p)', {"p": path})
    assert count.fetchall() == [(len(found),)]


def test_token_ids_alone(tmp_path: Path) -> None:
    """Without text the classes that need it have no member, the others have theirs."""
    run = word_run(tmp_path / "run", SMALL, text=False)
    found = read(classify(run, ["kind", "subword", "copy", "frequency"]).path)
    assert found[["kind", "subword"]].isna().all(axis=None)
    assert found[["copy", "frequency"]].notna().all(axis=None)


def test_default_classes(run: RunFolder, tmp_path: Path) -> None:
    """The group is one where the run has groups; it stands in the table by document."""
    assert default_classes(run) == DEFAULTS
    grouped = Simulation(**{**vars(SMALL), "groups": ("fact", "<b>fiction</b>", None)})
    run = word_run(tmp_path / "grouped", grouped)
    assert default_classes(run) == (*DEFAULTS, "group")
    found = read(classify(run, default_classes(run)).path)
    by_document = found.groupby("document", observed=True)["group"].agg(set)
    assert by_document["doc000"] == {"fact"}
    assert by_document["doc001"] == {"<b>fiction</b>"}
    assert found.loc[found["document"] == "doc002", "group"].isna().all()


def test_predicates_can_only_read(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one predicate is given is what the next is given: none can write to it."""
    arrays = (
        lambda window: window.ids,
        lambda window: window.char_start,
        lambda window: window.char_end,
        lambda window: window.words,
        lambda window: window.last_occurrence,
        lambda window: window.copies[0],
        lambda window: window.copies[1],
        lambda window: window.counts.ids,
        lambda window: window.counts.counts,
    )
    for number, array in enumerate(arrays):

        def spoils(window: WindowTokens, *, of: Any = array) -> list[None]:
            of(window)[0] = 7
            return [None] * len(window)

        entry = registry.Entry(f"spoils{number}", spoils, "", ())
        monkeypatch.setitem(registry.REGISTRY.entries, entry.name, entry)
        with pytest.raises(ProbeError, match=r"window 0 of 'doc000': .*read-only"):
            classify(run, [entry.name], write=False)


def test_a_kept_table_with_a_flipped_bit(run: RunFolder) -> None:
    """It is made anew, for nothing else would find a label that became another."""
    path = classify(run, ["kind"]).path
    checked = {"page_checksum_verification": True}
    whole = pq.read_table(path, **checked)
    column = pq.read_metadata(path).row_group(0).column(6)
    damaged = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    damaged[first + column.total_compressed_size - 1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, **checked)
    assert pq.read_table(classify(run, ["kind"]).path, **checked).equals(whole)


def test_windows_that_cannot_be_read(run: RunFolder) -> None:
    """A damaged windows.parquet is one line."""
    whole = (run.path / "windows.parquet").read_bytes()
    (run.path / "windows.parquet").write_bytes(whole[:4] + bytes(len(whole) - 600) + whole[-596:])
    with pytest.raises(ProbeError, match=r"windows\.parquet.* cannot be read") as caught:
        classify(run, ["kind"])
    assert "\n" not in str(caught.value)


# -- the labels of all tokens as small numbers ----------------------------------------------------

TOKENS = 3000


@pytest.fixture(name="table")
def class_table(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A table of classes with few values, with many, and with a few without a label."""
    rng = np.random.default_rng(0)
    sizes = {"two": 2, "seven": 7, "eight": 8, "many": 300}
    labels = {
        name: np.where(rng.random(TOKENS) < 0.1, None, rng.integers(size, size=TOKENS).astype(str))
        for name, size in sizes.items()
    }
    back = {DISTANCES[0]: rng.integers(-1, 9, TOKENS), DISTANCES[1]: rng.integers(-1, 1e6, TOKENS)}
    columns = {name: pa.array(values).dictionary_encode() for name, values in labels.items()}
    table = pa.table(columns | {name: values.astype(np.int32) for name, values in back.items()})
    pq.write_table(table, tmp_path / "classes.parquet", row_group_size=700)
    return tmp_path / "classes.parquet", pd.DataFrame(labels | back)


def test_numbers_stand_for_the_labels_of_all_classes(table: tuple[Path, pd.DataFrame]) -> None:
    """A class of many values stands alone; a token without a label has none."""
    path, expected = table
    labels = read_labels(path, ["two", "seven", "eight", "many"])
    assert labels.tokens == TOKENS
    assert [list(one.values) for one in labels.combined] == [["two", "seven"], ["eight"], ["many"]]
    for one in labels.combined:
        at = 0
        for name, values in one.values.items():
            has = one.has[one.numbers][:, at : at + len(values)]
            at += len(values)
            found = np.where(has.any(axis=1), np.array(values, object)[has.argmax(axis=1)], None)
            assert found.tolist() == [None if pd.isna(one) else one for one in expected[name]]
            assert set(has.sum(axis=1)) <= {0, 1}
    for name in DISTANCES:
        assert labels.back[name].tolist() == expected[name].tolist()
    assert [labels.back[name].dtype for name in DISTANCES] == [np.int16, np.int32]


def test_a_label_that_became_another_is_seen(table: tuple[Path, pd.DataFrame]) -> None:
    """The pages that are read are verified."""
    path, _ = table
    pq.write_table(pq.read_table(path), path, compression="none", write_page_checksum=True)
    column = pq.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        read_labels(path, ["seven"])


@pytest.mark.slow
def test_what_is_counted_along_is_what_is_counted_alone(tmp_path: Path) -> None:
    """As a run is opened, or when it is first asked: the same curves."""
    run = word_run(tmp_path / "run", simulation(repeats=1))
    with open_run(run.path, analysis=HOW, classes=["kind", "copy"], along=counters) as opened:
        along = class_curves(opened, opened.once(asked))
    with open_run(run.path, analysis=HOW, classes=["kind", "copy"]) as opened:
        alone = class_curves(opened, ClassSums(opened, classify(opened, ["kind", "copy"])))
    for name in ("curves", "contexts", "counts", "occurrences", "copies"):
        pd.testing.assert_frame_equal(getattr(along, name), getattr(alone, name))
