"""Shards of a run: whoever scores what, and in which order, it is the run of one process."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import probe
from pandas.testing import assert_frame_equal
from shard_runs import shards, status, whole_run  # noqa: F401 (a fixture)
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    environment,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
)

from probe.errors import UsageError
from probe.results.folder import read_folder
from probe.results.scores import Store
from probe.results.shards import Shard, parse_shard
from probe.runs.run import run

HOLD = """
import sys
from pathlib import Path
from probe.errors import ProbeError
from probe.results.scores import Store
from probe.results.shards import parse_shard
shard = None if sys.argv[2] == "all" else parse_shard(sys.argv[2])
try:
    with Store(Path(sys.argv[1]), shard).locked():
        print("held")
except ProbeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        ("0/1", {}, (0, 1)),
        (" 3 / 4 ", {}, (3, 4)),
        ("auto", {"RANK": "2", "WORLD_SIZE": "8"}, (2, 8)),
        (
            "auto",
            {
                "SLURM_ARRAY_TASK_ID": "14",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            (2, 3),
        ),
    ],
)
def test_which_shard(text: str, environ: dict[str, str], found: tuple[int, int]) -> None:
    assert parse_shard(text, environ) == Shard(*found)


ARRAY = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_STEP": "3",
    "SLURM_ARRAY_TASK_COUNT": "3",
}


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ("4/4", {}, r"shard is 4/4; allowed: 0/4 to 3/4$"),
        ("0/0", {}, r"shard is 0/0; allowed: i/n"),
        ("-1/4", {}, r"shard '-1/4' is not understood; allowed: i/n"),
        ("half", {}, r"shard 'half' is not understood"),
        ("auto", {}, "finds neither SLURM_ARRAY_TASK_ID nor RANK and WORLD_SIZE"),
        ("auto", {"RANK": "1"}, r"RANK='1', WORLD_SIZE=None; allowed: whole numbers"),
        ("auto", {"RANK": "8", "WORLD_SIZE": "8"}, r"which is 8/8; allowed: 0/8 to 7/8"),
        ("auto", ARRAY, "allowed: an array of even steps"),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_ID": "9"}, r"is 3/3; allowed: 0/3 to 2/3"),
    ],
)
def test_no_shard(text: str, environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_shard(text, environ)


@pytest.mark.slow
@pytest.mark.parametrize("order", [["0/3", "1/3", "2/3"], ["2/3", "0/3", "0/3", "1/3"]])
def test_in_any_order(order: list[str], base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """The same parts to the byte; complete with the last of them, not before."""
    for at, text in enumerate(order):
        folder = shards(base, tmp_path, text)
        assert status(folder) == ("complete" if at == len(order) - 1 else "unfinished")
    assert parts(folder) == parts(whole)
    for name in ("windows.parquet", "frequencies.parquet"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    costs, plain = (json.loads((f / "run.json").read_text())["costs"] for f in (folder, whole))
    assert costs["tokens"] == plain["tokens"]


@pytest.mark.slow
def test_shards_of_two_divisions(base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """What others have scored is not scored again, whatever their number; the rest is."""
    folder = shards(base, tmp_path, "0/2", "1/3")
    before = parts(folder)
    assert status(folder) == "unfinished"
    assert score(base, tmp_path, batch=1) == folder
    after = parts(folder)
    assert {name: after[name] for name in before} == before
    assert after == parts(whole)
    assert status(folder) == "complete"


@pytest.mark.slow
def test_more_shards_than_documents(base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    folder = shards(base, tmp_path, *(f"{at}/11" for at in range(11)))
    assert parts(folder) == parts(whole)


@pytest.mark.slow
def test_rows_of_larger_units(base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """Windows of several documents go together as the shards have them: equal rows all the same."""
    folder = shards(base, tmp_path, "1/2", "0/2", batch=3)
    assert_frame_equal(scores(folder), scores(whole), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_one_key_in_two_parts(base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """Two shards that score one window in units of their own leave it twice, until one begins."""
    folder = shards(base, tmp_path / "a", "0/2", batch=1)
    other = shards(base, tmp_path / "b", "0/1", batch=8)
    for part in other.glob("scores/*.parquet"):
        part.rename(folder / "scores" / part.name)
    (folder / "windows.parquet").write_bytes((other / "windows.parquet").read_bytes())
    assert (
        scores(folder).duplicated(["document", "condition", "repeat", "boundary", "position"]).any()
    )
    assert shards(base, tmp_path / "a", "1/2") == folder
    assert status(folder) == "complete"
    assert_frame_equal(scores(folder), scores(whole), rtol=0, atol=1e-5)
    assert not read_folder(folder).warnings


@pytest.mark.slow
def test_documents_that_came_meanwhile(base: dict[str, Any], tmp_path: Path) -> None:
    """A shard of more documents makes the run grow; one of fewer is refused."""
    folder = shards(base, tmp_path, "0/2", data={**base["data"], "max_documents": 4})
    shards(base, tmp_path, "1/2")
    assert status(folder) == "unfinished"
    with pytest.raises(UsageError, match="max_documents may grow, not shrink"):
        shards(base, tmp_path, "0/2", data={**base["data"], "max_documents": 4})
    shards(base, tmp_path, "0/2")
    assert status(folder) == "complete"


@pytest.mark.slow
def test_settings_that_say_nothing_of_rows(base: dict[str, Any], tmp_path: Path) -> None:
    """Shards with other batches, labels or devices are of one run all the same."""
    folder = shards(base, tmp_path, "0/2", batch=1)
    shards(base, tmp_path, "1/2", batch=2, analysis={"resamples": 200})
    assert status(folder) == "complete"


@pytest.mark.slow
def test_a_shard_that_ends_after_the_run_grew(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows of fewer documents, and does not call complete what holds more."""
    few = configured(base, batch=1, data={**base["data"], "max_documents": 4})
    more = configured(base, batch=1)

    def grow(_: object) -> None:
        listening.clear()
        run(more, Store(tmp_path / "tiny", Shard(1, 2)))

    listening = [grow]
    run(few, Store(tmp_path / "tiny", Shard(0, 2)), listen=lambda _: [f(_) for f in listening])
    assert status(tmp_path / "tiny") == "unfinished"
    run(more, Store(tmp_path / "tiny", Shard(0, 2)))
    assert status(tmp_path / "tiny") == "complete"


def second(folder: Path, shard: str) -> str:
    """What another process says that wants to score a shard, or all."""
    command = [sys.executable, "-c", HOLD, str(folder), shard]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment(folder.parent)
    ).stdout.strip()


@pytest.mark.slow
def test_locks(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Store(folder, Shard(0, 2)).locked():
        assert second(folder, "1/2") == "held"
        assert second(folder, "0/2") == f"{folder}: another process scores shard 0/2"
        assert second(folder, "all") == f"{folder}: another run is writing into it"
    assert second(folder, "0/2") == "held"
    with Store(folder).locked():
        assert second(folder, "1/2") == f"{folder}: a run that is no shard is writing into it"


@pytest.mark.slow
def test_scratch_of_others_stays(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another shard may be writing; what is old, or there when one process has all, goes."""
    folder = shards(base, tmp_path, "0/2")
    new, old = (folder / "scores" / f".probe.{name}.tmp" for name in ("new", "old"))
    for scratch in (new, old):
        scratch.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    shards(base, tmp_path, "1/2")
    assert new.exists()
    assert not old.exists()
    score(base, tmp_path, batch=1)
    assert not new.exists()


@pytest.mark.slow
def test_a_disk_without_locks(
    base: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and everything is scored; parts stay as they are, which two might merge."""
    take = fcntl.flock

    def refuse(file: Any, how: int) -> None:
        if str(getattr(file, "name", "")).startswith(str(tmp_path)):
            raise OSError(errno.ENOLCK, "No locks available")
        take(file, how)

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("probe.results.scores.MERGED", 2)
    said: list[str] = []
    for at in (0, 1):
        store = Store(tmp_path / "tiny", Shard(at, 2))
        folder = run(configured(base, batch=1), store, say=said.append)
    words = "its file system has no locks; see to it that no other process scores shard 1/2 there"
    assert f"{folder}: {words}" in said
    assert parts(folder) == parts(whole)
    assert status(folder) == "unfinished"  # nobody can be sure of it
    assert score(base, tmp_path, batch=1) == folder
    assert status(folder) == "complete"


@pytest.mark.slow
def test_merged_by_the_shards(
    base: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.results.scores.MERGED", 3)
    folder = shards(base, tmp_path, "0/2", "1/2")
    assert len(parts(folder)) == 8 // 3 + 8 % 3
    assert_frame_equal(scores(folder), scores(whole))


@pytest.mark.slow
def test_two_at_once(base: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """Processes that begin together, one of them killed and started again."""
    import yaml

    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(changed(base, batch=1)), encoding="utf-8")

    def start(text: str) -> "subprocess.Popen[bytes]":
        code = "from probe.commands.main import main; main()"
        with (tmp_path / f"{text.replace('/', '-')}.txt").open("wb") as told:
            return subprocess.Popen(
                [sys.executable, "-c", code, "run", str(path), "--shard", text],
                cwd=tmp_path,
                env=environment(tmp_path),
                stdout=told,
                stderr=told,
            )

    folder, until = tmp_path / "results" / "tiny", time.monotonic() + 100
    with start("0/2") as killed, start("1/2") as other:
        while not parts(folder) and time.monotonic() < until:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        with start("0/2") as again:
            pass
    assert (other.returncode, again.returncode) == (0, 0)
    told = [(tmp_path / f"{at}-2.txt").read_text(encoding="utf-8") for at in (0, 1)]
    assert any("others are missing" not in text for text in told)
    assert status(folder) == "complete"
    assert parts(folder) == parts(whole)


@pytest.mark.slow
def test_command(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    refused = probe("run", "tiny.yaml", "--shard", "4/4")
    assert refused.exit_code == 2
    assert "shard is 4/4; allowed: 0/4 to 3/4" in refused.stderr
    first = probe("run", "tiny.yaml", "--shard", "0/2")
    assert first.stdout == f"Shard 0/2 is scored, others are missing: {Path('results/tiny')}\n"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    last = probe("run", "tiny.yaml", "--shard", "auto")
    assert "others are missing" not in last.stdout
