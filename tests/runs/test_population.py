"""Documents that are not scored: which, when they are written down, and when they are not."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import probe
from open_runs import by_id, opened
from shard_runs import shards
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    score,
    text_folder,
    windows,
)

from probe.corpus.records import Record
from probe.corpus.tokenise import TOGETHER
from probe.runs.experiment import prepare
from probe.runs.merge import merge
from probe.runs.population import population
from probe.runs.run import run

SCORED = 4


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of population.parquet."""
    found: list[dict[str, Any]] = pq.read_table(folder / "population.parquet").to_pylist()
    return found


@pytest.fixture(scope="module", name="part")
def part_of_the_data(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``SCORED`` of eight documents, two windows of a document where there is room."""
    return score(
        base,
        tmp_path_factory.mktemp("part"),
        data__max_documents=SCORED,
        windows__per_document=2,
        conditions=["noise", "truncate"],
    )


@pytest.fixture(name="copy")
def copied(part: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    return Path(shutil.copytree(part, tmp_path / "tiny"))


def test_the_documents_behind_the_scored_ones_are_written_with_their_windows(
    base: dict[str, Any], part: Path
) -> None:
    """In the order of the sample, cut as a run of all documents would cut them."""
    every = prepare(configured(base, windows__per_document=2))
    behind = list(every.documents)[SCORED:]
    scored = {document for document, _ in windows(part)}
    assert scored == set(list(every.documents)[:SCORED])
    found = rows(part)
    assert list(dict.fromkeys(row["document"] for row in found)) == behind
    expected = {(one.document, one.index): one.ids.tolist() for one in every.windows}
    assert {(row["document"], row["window"]) for row in found} == {
        key for key in expected if key[0] in behind
    }
    for row in found:
        assert row["token_ids"] == expected[row["document"], row["window"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"analysis__predict": False},
        {"analysis__population": 0},
        {"analysis__population": 2 * SCORED - 1},
        {"data__max_documents": None},
        {"data__max_documents": 100},
    ],
    ids=["not predicted", "no documents", "hardly more than are scored", "all", "more than all"],
)
def test_nothing_is_written_without_a_use_for_it(
    base: dict[str, Any], tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.runs.run.population", None)  # no document is read again
    how = {"data__max_documents": SCORED, "conditions": ["truncate"]} | changes
    folder = score(base, tmp_path, **how)
    assert not (folder / "population.parquet").exists()
    assert opened(folder).prediction is None


def test_as_many_documents_as_are_asked_for_the_scored_ones_among_them(
    base: dict[str, Any], tmp_path: Path
) -> None:
    how = {"data__max_documents": 2, "conditions": ["truncate"]}
    folder = score(base, tmp_path, **how, analysis__population=5)
    first = [row["document"] for row in rows(folder)]
    assert len(first) == 3
    score(base, tmp_path, **how, analysis__population=4)
    assert [row["document"] for row in rows(folder)] == first[:2]


def test_nothing_is_tokenised_behind_the_last_document_that_is_asked_for(
    base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that the model does not know, in a record that nobody needs, ends nothing."""
    experiment = prepare(configured(base, data__max_documents=1))
    known = [Record(str(number), ids=np.arange(90)) for number in range(TOGETHER)]
    bad = Record("bad", ids=np.array([10**6] * 90))
    monkeypatch.setattr(
        "probe.runs.population.read_records", lambda *_, **__: (iter([*known, bad]), None)
    )
    found = list(population(experiment, TOGETHER + 1))
    assert {window.document for window in found} == {record.id for record in known}


@pytest.mark.slow
def test_a_run_that_grows_has_none_of_its_documents_twice(base: dict[str, Any], copy: Path) -> None:
    """The file stays, what has been scored since counts as scored."""
    before = (copy / "population.parquet").read_bytes()
    folder = score(
        base,
        copy.parent,
        data__max_documents=SCORED + 2,
        windows__per_document=2,
        conditions=["noise", "truncate"],
    )
    assert folder == copy
    assert (copy / "population.parquet").read_bytes() == before
    prediction = opened(copy).prediction
    assert prediction is not None
    assert (prediction.documents, prediction.population) == (SCORED + 2, 8)


@pytest.mark.slow
def test_a_run_whose_documents_are_all_scored_in_the_end_is_not_predicted(
    base: dict[str, Any], copy: Path
) -> None:
    score(
        base,
        copy.parent,
        data__max_documents=8,
        windows__per_document=2,
        conditions=["noise", "truncate"],
    )
    grown = opened(copy)
    assert grown.prediction is None
    assert not grown.warnings


@pytest.mark.slow
def test_a_run_that_is_cut_off_and_goes_on_has_the_same_file(
    base: dict[str, Any], part: Path, tmp_path: Path
) -> None:
    """Written before anything is scored, and not again."""
    config = configured(
        base,
        data__max_documents=SCORED,
        windows__per_document=2,
        conditions=["noise", "truncate"],
    )

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, listen=stop)
    path = tmp_path / "tiny" / "population.parquet"
    assert path.read_bytes() == (part / "population.parquet").read_bytes()
    written = path.stat().st_mtime_ns
    run(config, tmp_path)
    assert path.stat().st_mtime_ns == written


@pytest.mark.slow
def test_shards_and_joined_folders_have_it(
    base: dict[str, Any], part: Path, tmp_path: Path
) -> None:
    how = {
        "data__max_documents": SCORED,
        "windows__per_document": 2,
        "conditions": ["noise", "truncate"],
    }
    halves = [shards(base, tmp_path / text[0], text, **how) for text in ("0/2", "1/2")]
    expected = (part / "population.parquet").read_bytes()
    assert all((half / "population.parquet").read_bytes() == expected for half in halves)
    joined = merge(halves, tmp_path / "joined")
    assert (joined / "population.parquet").read_bytes() == expected
    whole, found = opened(part).prediction, opened(joined).prediction
    assert whole is not None
    assert found is not None
    np.testing.assert_allclose(found.centred["truncate"], whole.centred["truncate"], atol=1e-6)


@pytest.mark.slow
def test_data_that_comes_as_token_ids(base: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 20, size=90).tolist() for _ in range(10)]
    pq.write_table(pa.table({"ids": ids}), tmp_path / "ids.parquet")
    data = {"path": "parquet", "data_files": str(tmp_path / "ids.parquet"), "ids_column": "ids"}
    folder = score(base, tmp_path, data=data | {"max_documents": 4}, conditions=["truncate"])
    for row in rows(folder):
        whole = ids[int(row["document"])]
        start = next(at for at in range(90) if whole[at : at + 64] == row["token_ids"])
        assert 0 <= start <= 90 - 64
    assert len(rows(folder)) == 6
    prediction = opened(folder).prediction
    assert prediction is not None
    assert prediction.population == 10


@pytest.mark.slow
def test_documents_that_cannot_be_read_do_not_end_a_run_that_needs_none_of_them(
    base: dict[str, Any], tmp_path: Path
) -> None:
    """An id that the model does not know, in a document that is not scored: a line says so."""
    ids = [np.arange(90) % 17 + 3 for _ in range(8)]
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"ids": ids}), path)
    data = {"path": "parquet", "data_files": str(path), "ids_column": "ids", "max_documents": 2}
    scored = prepare(configured(base, data=data)).documents
    for number in range(8):
        if str(number) not in scored:
            ids[number] = np.full(90, 9_999)
    pq.write_table(pa.table({"ids": ids}), path)
    said: list[str] = []
    folder = run(configured(base, data=data, conditions=["truncate"]), tmp_path, say=said.append)
    assert not (folder / "population.parquet").exists()
    (line,) = [one for one in said if "narrow no interval" in one]
    assert "holds the token id 9999" in line
    assert opened(folder).documents == sorted(scored)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path: Path) -> None:
    """A damaged page, which the footer says nothing of."""
    group = pq.read_metadata(path).row_group(0)
    column = group.column(group.num_columns - 1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    path.write_bytes(content)


def of_texts(path: Path) -> None:
    pq.write_table(pa.table({"document": ["a"], "window": [0], "token_ids": [["b"]]}), path)


def without_ids(path: Path) -> None:
    pq.write_table(pa.table({"document": ["a"], "window": [0]}), path)


def changed_to(ids: list[int] | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        found = pq.read_table(path).to_pylist()
        found[0]["token_ids"] = ids
        pq.write_table(pa.Table.from_pylist(found), path)

    return change


DAMAGES = {
    "cut off": cut_off,
    "a damaged page": flipped,
    "empty": lambda path: path.write_bytes(b""),
    "no ids": without_ids,
    "texts": of_texts,
    "a list is missing": changed_to(None),
    "below 0": changed_to([-1] * 64),
    "no vocabulary is so large": changed_to([2**31 - 1] * 64),
    "no int32": changed_to([2**40] * 64),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_damaged_is_named_and_the_run_is_read_without_it(
    part: Path, copy: Path, damage: str
) -> None:
    """A line says so; what is said of the run is what the scored documents say."""
    DAMAGES[damage](copy / "population.parquet")
    found, plain = opened(copy), opened(part, predict=False)
    assert found.prediction is None
    (line,) = [one for one in found.warnings if "population.parquet" in one]
    assert "intervals are those of the scored documents alone" in line
    assert "\n" not in line
    assert found.sums.equals(plain.sums)
    assert "prediction" not in by_id(found)


@pytest.mark.parametrize("damage", ["cut off", "a damaged page"])
def test_a_run_writes_a_damaged_file_again(
    base: dict[str, Any], part: Path, copy: Path, damage: str
) -> None:
    DAMAGES[damage](copy / "population.parquet")
    score(
        base,
        copy.parent,
        data__max_documents=SCORED,
        windows__per_document=2,
        conditions=["noise", "truncate"],
    )
    expected = (part / "population.parquet").read_bytes()
    assert (copy / "population.parquet").read_bytes() == expected


@pytest.mark.slow
def test_windows_that_are_too_short_or_empty_say_nothing(copy: Path) -> None:
    for ids in ([], [5, 6, 7]):
        changed_to(ids)(copy / "population.parquet")
        found = opened(copy)
        assert found.prediction is not None
        assert np.isfinite(found.sums["delta_sum"]).all()


@pytest.mark.slow
def test_a_report_of_a_folder_that_cannot_be_written(copy: Path) -> None:
    copy.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        found = probe("report", str(copy))
    finally:
        copy.chmod(stat.S_IRWXU)
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert "Traceback" not in found.output


@pytest.mark.slow
def test_a_folder_without_it_is_read_as_before(part: Path, copy: Path) -> None:
    (copy / "population.parquet").unlink()
    found = opened(copy)
    assert found.prediction is None
    assert not [one for one in found.warnings if "population" in one]
    assert found.sums.equals(opened(part, predict=False).sums)
