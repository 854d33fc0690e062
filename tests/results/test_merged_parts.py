"""Parts of single units become few, and a folder holds parts of its own run alone."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from open_runs import opened
from test_scores import columns
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.errors import ProbeError, UsageError
from probe.models.load import load_model, open_source
from probe.results.folder import read_folder
from probe.results.footer import IDENTITY
from probe.results.scores import Store
from probe.runs.run import run


@pytest.fixture(name="few")
def merged_by_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.results.scores.MERGED", 3)


def filled(folder: Path, units: int = 7) -> Store:
    """A folder with one part a unit, each of other rows."""
    store = Store(folder)
    store.identity = "a" * 64
    for unit in range(units):
        name = f"document {unit}"
        rows = columns(unit + 1, document=np.full(unit + 1, name, dtype=object))
        store.write_part(rows, [(name, 0, "intact", 0)])
    return store


def rows(store: Store) -> pd.DataFrame:
    frames = [pq.read_table(part).to_pandas() for part in sorted(store.scores.glob("*.parquet"))]
    frame = pd.concat([f.astype({"document": str, "condition": str}) for f in frames])
    return frame.sort_values(["document", "position"], ignore_index=True)


def names(store: Store) -> list[str]:
    return sorted(part.name.partition("-")[0] for part in store.scores.glob("*.parquet"))


def test_merged(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven units six become two parts, with the same rows, keys, schema and identity."""
    store = filled(tmp_path / "merged")
    monkeypatch.setattr("probe.results.scores.MERGED", 100)
    single = filled(tmp_path / "single")
    assert names(store) == ["merged", "merged", "part"]
    assert names(single) == ["part"] * 7
    pd.testing.assert_frame_equal(rows(store), rows(single))
    assert store.held() == single.held()
    for part in (*store.scores.iterdir(), *single.scores.iterdir()):
        schema = pq.read_schema(part)
        assert schema == pq.read_schema(next(single.scores.iterdir()))
        assert schema.metadata[IDENTITY] == b"a" * 64


def test_many_rows_are_merged_in_blocks(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows parts have, a block of them is in memory at once."""
    monkeypatch.setattr("probe.results.scores.BLOCK", 2)
    store = filled(tmp_path / "blocks")
    monkeypatch.setattr("probe.results.scores.BLOCK", 1 << 20)
    pd.testing.assert_frame_equal(rows(store), rows(filled(tmp_path / "whole")))


@pytest.mark.parametrize("removed", range(3))
def test_cut_off_in_a_merge(
    removed: int, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the last single part is removed, nothing is lost, and nothing is there twice after."""
    expected = rows(filled(tmp_path / "whole", units=3))
    unlink, left = Path.unlink, iter(range(removed))

    def cut_off(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet" and next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path / "cut", units=3)
    store = Store(tmp_path / "cut")
    assert len(names(store)) == 1 + 3 - removed
    assert store.clean() == []
    assert names(store) == ["merged"]
    pd.testing.assert_frame_equal(rows(store), expected)


def test_a_part_of_another_version_stays(few: None, tmp_path: Path) -> None:
    """A part without an identity is read on, and merged with none that has one."""
    store = filled(tmp_path / "run", units=1)
    store.identity = None
    store.write_part(columns(), [("older", 0, "intact", 0)])
    store.identity = "a" * 64
    store.write_part(columns(2), [("newer", 0, "intact", 0)])
    assert names(store) == ["part"] * 3
    assert len(store.held()[0]) == 3


@pytest.mark.slow
def test_a_run_that_merges(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows, its answer and what a resume leaves to score are those of a run that does not."""
    single = score(base, tmp_path / "single", batch=1)
    monkeypatch.setattr("probe.results.scores.MERGED", 3)
    merged = score(base, tmp_path / "merged", batch=1)
    assert names(Store(merged)) == ["merged", "merged", "part", "part"]
    pd.testing.assert_frame_equal(scores(merged), scores(single))
    assert opened(merged).contexts == opened(single).contexts
    monkeypatch.setattr("probe.runs.loaded.load_model", None)  # nothing is left to score
    score(base, tmp_path / "merged", batch=1)


@pytest.mark.slow
def test_readers_leave_copies_out(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose merge was cut off is reported as if it had not been."""
    folder = score(base, tmp_path, batch=1)
    expected, aside = opened(folder), tmp_path / "aside"
    shutil.copytree(folder / "scores", aside)
    monkeypatch.setattr("probe.results.scores.MERGED", 8)
    store = Store(folder)
    store.identity = json.loads((folder / "run.json").read_text())["identity_hash"]
    store.merge()
    assert names(store) == ["merged"]
    for part in aside.iterdir():
        shutil.copy(part, folder / "scores")
    found = opened(folder)
    assert found.targets == expected.targets
    pd.testing.assert_frame_equal(found.curve, expected.curve)


@pytest.mark.slow
def test_the_record_is_written_seldom(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with every unit, and at the end of a call however it ends."""
    written: list[str] = []
    write = Store.write_record

    def counted(store: Store, record: Any) -> None:
        written.append(record["status"])
        write(store, record)

    monkeypatch.setattr(Store, "write_record", counted)
    folder = score(base, tmp_path, batch=1)
    assert len(written) == 4  # begun, checked, scored, complete; eight units
    targets = json.loads((folder / "run.json").read_text())["costs"]["targets"]

    def stop(progress: Any) -> None:
        if progress.windows == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(configured(base, name="stopped", batch=1), tmp_path, listen=stop)
    costs = json.loads((tmp_path / "stopped" / "run.json").read_text())["costs"]
    assert 0 < costs["targets"] < targets
    monkeypatch.setattr("probe.runs.begun.RECORD_SECONDS", 0)
    written.clear()
    score(base, tmp_path, batch=1, name="always")
    assert len(written) == 4 + 8


@pytest.fixture(name="mixed")
def folder_with_a_part_of_another(base: dict[str, Any], tmp_path: Path) -> Path:
    """A run whose last part was replaced by that of another model's run of the same windows."""
    folder = score(base, tmp_path / "a", batch=1)
    model = load_model(open_source(base["model"]["path"]), dtype="float32", device="cpu")
    other = run(configured(base, batch=1, seed=1), tmp_path / "b", model=model)
    ours = sorted((folder / "scores").iterdir())[-1]
    ours.unlink()
    shutil.copy(sorted((other / "scores").iterdir())[-1], folder / "scores")
    return folder


@pytest.mark.slow
def test_a_part_of_another_run(mixed: Path, base: dict[str, Any]) -> None:
    """It is refused by name where the run goes on, and left out by name where it is read."""
    foreign = sorted((mixed / "scores").iterdir())[-1].name
    with pytest.raises(UsageError, match=rf"{foreign} is of another run: of another model, "):
        score(base, mixed.parent, batch=1)
    said = [line for line in read_folder(mixed).warnings if foreign in line]
    assert said == [
        f"scores/{foreign} is left out: it is of another run: of another model, other data, "
        "windows, protocol or seed"
    ]


@pytest.mark.slow
def test_a_part_of_another_run_is_refused_first(mixed: Path, base: dict[str, Any]) -> None:
    """Before copies are removed: it holds what a part of this run holds, and more."""
    foreign = score(base, mixed.parent / "c", batch=8, seed=1)
    for part in (foreign / "scores").iterdir():
        shutil.copy(part, mixed / "scores")
    before = {path: path.read_bytes() for path in (mixed / "scores").iterdir()}
    with pytest.raises(UsageError, match="is of another run"):
        score(base, mixed.parent, batch=1)
    assert {path: path.read_bytes() for path in (mixed / "scores").iterdir()} == before


def changed_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((folder / "run.json").read_text())
    change(record)
    (folder / "run.json").write_text(json.dumps(record))


@pytest.mark.slow
def test_folders_of_earlier_versions(base: dict[str, Any], tmp_path: Path) -> None:
    """Without a hash in run.json and in the parts, all is taken as it is; new parts have one."""
    folder = score(base, tmp_path, batch=1, conditions=["truncate"])
    changed_record(folder, lambda record: record.pop("identity_hash"))
    for part in (folder / "scores").iterdir():
        table = pq.read_table(part)
        kept = {k: v for k, v in table.schema.metadata.items() if k != IDENTITY}
        pq.write_table(table.replace_schema_metadata(kept), part, write_page_checksum=True)
    assert not [line for line in read_folder(folder).warnings if "left out" in line]
    score(base, tmp_path, batch=1, conditions=["truncate", "shuffle"])
    marks = [
        (pq.read_schema(p).metadata or {}).get(IDENTITY) for p in (folder / "scores").iterdir()
    ]
    assert marks.count(None) == len(marks) / 2
    assert len(scores(folder)["condition"].unique()) == 3


@pytest.mark.slow
def test_the_hash_is_kept(base: dict[str, Any], tmp_path: Path) -> None:
    """A later version may know more of what a run is: the folder goes on under its first hash."""
    folder = score(base, tmp_path, batch=1, conditions=["truncate"])

    def older(record: dict[str, Any]) -> None:
        record["identity_hash"] = "b" * 64

    changed_record(folder, older)
    with pytest.raises(ProbeError, match="is of another run"):
        score(base, tmp_path, batch=1, conditions=["truncate", "shuffle"])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_keys_in_several_parts_are_kept_once(
    order: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that overlap, whatever comes first: a rest may have the name of another part."""
    keys = [(name, 0, "intact", 0) for name in "ab"]
    held = [keys[:1], keys, keys[1:]]
    store = Store(tmp_path / "run")
    names = {tuple(one): f"part-{place}" for one, place in zip(held, order, strict=True)}

    def path(_: Store, kind: str, own: Any) -> Path:
        return store.scores / f"{kind.replace('merged', 'part')}-{names[tuple(own)]}.parquet"

    monkeypatch.setattr(Store, "_path", path)
    for own in held:
        tables = [columns(3, document=np.full(3, key[0], dtype=object)) for key in own]
        store.write_part(tables, own)
    assert store.clean() == []
    assert store.held()[0] == set(keys)
    found = rows(store)
    assert found["document"].tolist() == ["a"] * 3 + ["b"] * 3
