"""A metadata column of the data is a token class under its own name."""

import json
from collections import Counter
from pathlib import Path

import pytest
from class_runs import score_rows, window_of, word_run
from open_runs import opened
from simulated import Simulation

from probe.classes.registry import check_columns, choose
from probe.classes.source import MOST_LABELS, metadata
from probe.errors import UsageError
from probe.results.folder import RunFolder, read_folder

SMALL = Simulation(
    {"truncate": lambda d: 0 * d}, documents=6, windows=2, length=40, boundaries=(20,), reach=20
)


def described(run: RunFolder, values: dict[str, dict[str, str]]) -> RunFolder:
    """The run, with metadata by column and document."""
    path = run.path / "run.json"
    record = json.loads(path.read_text("utf-8"))
    for document in record["data"]["documents"]:
        own = {
            column: held[document["id"]]
            for column, held in values.items()
            if document["id"] in held
        }
        document |= {"metadata": own} if own else {}
    path.write_text(json.dumps(record), encoding="utf-8")
    return read_folder(run.path)


def test_columns_of_a_run(tmp_path: Path) -> None:
    """Label by column and document; a document without a value is in no class."""
    run = word_run(tmp_path / "run", SMALL)
    assert metadata(run) == ({}, {})
    values = {"genre": {"doc000": "fiction", "doc001": "<b>"}, "year": {"doc001": "1815"}}
    assert metadata(described(run, values)) == (values, {})


def test_a_class_of_a_column() -> None:
    """All tokens of a document have its value; the version changes with the values."""
    columns = {"genre": {"a": "fiction"}, "is fiction/non-fiction": {"b": "yes"}}
    genre, other = choose(["genre", "is fiction/non-fiction"], columns)
    assert (genre.text, other.text) == ("genre", "is fiction/non-fiction")
    assert genre.labels(window_of([1, 2])) == ["fiction", "fiction"]
    assert other.labels(window_of([1, 2])) == [None, None]
    assert choose(["genre"], columns)[0].version == genre.version
    assert choose(["genre"], {"genre": {"a": "poem"}})[0].version != genre.version
    assert [one.text for one in choose(["copy", " genre ", "genre"], columns)] == ["copy", "genre"]


def test_an_unknown_column_is_told() -> None:
    """With the columns that there are, in one line."""
    with pytest.raises(UsageError) as caught:
        choose(["gendre"], {"genre": {}, "year": {}})
    assert str(caught.value).endswith(", or one of data.metadata_columns (genre, year)")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"or one of data\.metadata_columns$"):
        choose(["genre"])


def test_a_column_never_hides_a_class() -> None:
    """Nor a column of the class table, whatever a run.json says."""
    for name in ("copy", "COPY", "document", "a.py:f", "copy(edges=[1])"):
        with pytest.raises(UsageError, match="class"):
            choose([name], {name: {}})
    check_columns(["genre", "is it a copy?"])


@pytest.mark.slow
def test_many_values(tmp_path: Path) -> None:
    """Those with most targets stay, by a count of all intact rows; equal counts by name."""
    documents = 2 * MOST_LABELS + 5
    run = word_run(tmp_path / "run", Simulation(**{**vars(SMALL), "documents": documents}))
    values = {f"doc{number:03d}": f"v{(number * 7) % 30:02d}" for number in range(documents)}
    run = described(run, {"genre": values, "half": {name: values[name] for name in ("doc000",)}})
    found, notes = metadata(opened(run.path))
    rows = score_rows(run)
    intact = rows[rows["condition"] == "intact"]
    counts: Counter[str] = Counter()
    for name in intact["document"]:
        counts[values[name]] += 1
    kept = [value for value, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][:20]
    assert len(set(counts.values())) > 1
    assert found["genre"] == {
        name: value if value in kept else "other" for name, value in values.items()
    }
    assert found["half"] == {"doc000": values["doc000"]}
    assert notes == {
        "genre": "token class genre has 30 values: the 20 with most targets are kept apart, the"
        " others are merged into 'other'"
    }


@pytest.mark.slow
def test_a_value_that_is_other(tmp_path: Path) -> None:
    """It is not mixed with what was put together."""
    documents = MOST_LABELS + 6
    run = word_run(tmp_path / "run", Simulation(**{**vars(SMALL), "documents": documents}))
    values = {f"doc{number:03d}": f"v{number:02d}" for number in range(documents)}
    values |= {"doc000": "other", "doc001": "other"}
    found, notes = metadata(opened(described(run, {"genre": values}).path))
    assert Counter(found["genre"].values())["other"] == 2
    assert Counter(found["genre"].values())["other (of 25)"] == 5
    assert "'other (of 25)'" in notes["genre"]
