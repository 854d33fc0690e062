"""Folders of one run are joined; those of another, and rows that do not agree, are refused."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command_line import probe
from pandas.testing import assert_frame_equal
from shard_runs import shards, status, whole_run  # noqa: F401 (a fixture)
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
)

from probe.errors import ProbeError, UsageError
from probe.results.folder import read_folder
from probe.runs.merge import merge


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def halves(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards, each in a folder of its own."""
    roots = (tmp_path_factory.mktemp("half") for _ in range(2))
    return [shards(base, root, f"{at}/2") for at, root in enumerate(roots)]


def shifted(folder: Path, by: float) -> None:
    """Losses that are others by so many nats."""
    for part in folder.glob("scores/*.parquet"):
        table = pq.read_table(part)
        at = table.schema.get_field_index("nll")
        moved = pc.add(table["nll"], pa.scalar(by, pa.float32()))
        pq.write_table(table.set_column(at, table.schema.field(at), moved), part)


@pytest.mark.slow
def test_two_halves(halves: list[Path], whole: Path, tmp_path: Path) -> None:
    before = [parts(folder) for folder in halves]
    said: list[str] = []
    into = merge(halves, tmp_path / "run", said.append)
    assert parts(into) == parts(whole)
    assert status(into) == "complete"
    assert said == [f"2 folders joined in {into}: complete"]
    assert [parts(folder) for folder in halves] == before
    assert not read_folder(into).warnings
    both = [record(folder)["costs"]["tokens"] for folder in halves]
    assert record(into)["costs"]["tokens"] == sum(both) == record(whole)["costs"]["tokens"]


@pytest.mark.slow
def test_one_after_another(halves: list[Path], whole: Path, base: Any, tmp_path: Path) -> None:
    """What the folder holds counts; a part that is missing is said, and scored by probe run."""
    said: list[str] = []
    into = merge(halves[:1], tmp_path / "tiny", said.append)
    assert said == [f"1 folder joined in {into}: 4 of 8 windows to be scored"]
    assert status(into) == "unfinished"
    merge(halves[1:], into)
    merge([*halves, into], into)
    assert parts(into) == parts(whole)
    assert status(into) == "complete"
    spent = [record(folder)["costs"]["tokens"] for folder in halves]  # each joined twice
    assert record(into)["costs"]["tokens"] == sum(spent)
    (into / "scores" / min(parts(into))).unlink()
    assert score(base, tmp_path, batch=1) == into
    assert parts(into) == parts(whole)


@pytest.mark.slow
def test_what_both_have_must_agree(
    base: Any, halves: list[Path], whole: Path, tmp_path: Path
) -> None:
    other = shards(base, tmp_path / "other", "0/1", batch=3)
    into = merge([whole, other], tmp_path / "same")
    assert parts(into) == parts(whole)
    into = merge([halves[0], other], tmp_path / "more")  # of other units, some rows are new
    assert_frame_equal(scores(into), scores(whole), rtol=0, atol=1e-5)
    assert status(into) == "complete"
    assert not read_folder(into).warnings
    shifted(other, 0.5)
    with pytest.raises(ProbeError, match=r"on nll, most in .*: they differ by up to 0\.5 nats"):
        merge([whole, other], tmp_path / "apart")
    assert parts(tmp_path / "apart") == parts(whole)


@pytest.mark.slow
def test_cut_off_anywhere(
    halves: list[Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joining that ends in any of its writes is made again by the same call."""
    from probe.results import files

    sync, into = files.os.fsync, tmp_path / "run"
    for write in range(1, 14):
        calls = iter(range(1, 1_000))

        def end_or_sync(file: int, calls: Any = calls, write: int = write) -> None:
            if next(calls) == write:
                raise KeyboardInterrupt
            sync(file)

        shutil.rmtree(into, ignore_errors=True)
        monkeypatch.setattr(files.os, "fsync", end_or_sync)
        with contextlib.suppress(KeyboardInterrupt):
            merge(halves, into)
        monkeypatch.setattr(files.os, "fsync", sync)
        merge(halves, into)
        assert parts(into) == parts(whole)
        assert status(into) == "complete"


def test_a_folder_without_its_windows(halves: list[Path], tmp_path: Path) -> None:
    """It is not begun to the end; what it holds joins one that is."""
    begun = tmp_path / "begun"
    shutil.copytree(halves[0], begun)
    (begun / "windows.parquet").unlink()
    with pytest.raises(ProbeError, match=r"begun has not all of its windows in windows\.parquet"):
        merge([begun], tmp_path / "run")
    assert status(merge([begun, halves[1]], tmp_path / "both")) == "complete"


def test_a_damaged_part(halves: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(halves[0], other)
    part = min(other.glob("scores/*.parquet"))
    content = bytearray(part.read_bytes())
    content[40] ^= 255
    before = part.stat()
    part.write_bytes(content)
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy from elsewhere has it
    with pytest.raises(ProbeError, match=f"{part.name} is damaged"):
        merge([other, halves[1]], tmp_path / "run")


def test_other_rows(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    part = min(other.glob("scores/*.parquet"))
    table = pq.read_table(part)
    pq.write_table(table.slice(1), part)
    with pytest.raises(ProbeError, match=f"{part} have other rows of "):
        merge([whole, other], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"windows": {"length": 66, "per_document": 1}}, "windows.length was 64, is 66"),
    ],
)
def test_another_run(
    changes: dict[str, Any], words: str, base: Any, halves: list[Path], tmp_path: Path
) -> None:
    other = shards(base, tmp_path, "0/4", **changes)
    with pytest.raises(UsageError, match=f"{other} is of another run than .*: {words}"):
        merge([halves[0], other], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_more_documents_and_conditions(base: Any, whole: Path, tmp_path: Path) -> None:
    """The conditions of all; documents that replaced text is taken from must be the same."""
    few = score(base, tmp_path / "few", batch=1, conditions=["truncate"])
    more = score(base, tmp_path / "more", batch=1, conditions=["noise", "shuffle"])
    into = merge([few, more], tmp_path / "run")
    assert record(into)["config"]["conditions"] == ["truncate", "noise", "shuffle"]
    assert status(into) == "complete"
    wanted = scores(whole)
    wanted = wanted[~wanted["condition"].str.startswith("replace")].reset_index(drop=True)
    assert_frame_equal(scores(into), wanted)
    small = score(base, tmp_path / "small", batch=1, data={**base["data"], "max_documents": 4})
    with pytest.raises(UsageError, match="replaced text was taken from other documents"):
        merge([small, whole], tmp_path / "none")


@pytest.mark.slow
def test_command(halves: list[Path], tmp_path: Path) -> None:
    into = tmp_path / "run"
    done = probe("merge", *halves, "--into", into)
    assert done.exit_code == 0
    assert done.stdout == f"Answer and page: probe report {into}\n"
    nothing = probe("merge", tmp_path / "nowhere", "--into", into)
    assert nothing.exit_code == 2
    assert "is no run folder: it has no run.json" in nothing.stderr
    assert not (tmp_path / "nowhere").exists()
    for address in ("s3://bucket/run", "s3:/bucket/run"):
        refused = probe("merge", *halves, "--into", address)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr == f"Error: --into {address}: allowed: a folder of this machine\n"
    assert probe("merge", *halves, "--into", f"file://{into}").stdout == done.stdout
