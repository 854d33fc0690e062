"""Runs at addresses: files are put there one by one as they are finished, and go on from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from command_line import probe
from shard_runs import status, whole_run  # noqa: F401 (a fixture)
from test_scores import columns
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    parts,
    text_folder,
)

from probe.errors import ProbeError, UsageError
from probe.results.mirror import Mirror, is_address
from probe.results.scores import Store

RUNS = "memory://runs"


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield
    system.store.clear()


@pytest.fixture(name="config")
def configuration(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(changed(base, batch=1)), encoding="utf-8")
    return "tiny.yaml"


def files() -> set[str]:
    return set(fsspec.filesystem("memory").store)


def test_what_is_an_address() -> None:
    found = [is_address(text) for text in ("s3://a", "hf://a/b", "file:///a", "a/b", "C:\\a", "a")]
    assert found == [True, True, False, False, False, False]
    with pytest.raises(UsageError, match="nosuch://a: Protocol not known: nosuch"):
        Mirror("nosuch://a")


@pytest.mark.slow
def test_shards_at_an_address(config: str, whole: Path, tmp_path: Path) -> None:
    """Each shard has a folder of its own there; joined they are the run of one process."""
    for at in ("0/2", "1/2"):
        done = probe("run", config, "--results", RUNS, "--shard", at)
        assert done.exit_code == 0
        assert done.stdout == f"Shard {at} is scored: {RUNS}/tiny/{at.replace('/', '-of-')}\n"
    assert not (tmp_path / "results").exists()
    before = files()
    joined = probe("merge", f"{RUNS}/tiny/*", "--into", "results/tiny")
    assert joined.exit_code == 0
    assert parts(Path("results/tiny")) == parts(whole)
    assert status(Path("results/tiny")) == "complete"
    assert files() == before
    again = probe("run", config, "--results", RUNS, "--shard", "1/2")
    assert again.exit_code == 0
    assert files() == before


@pytest.mark.slow
def test_a_matrix_at_an_address(
    base: dict[str, Any], config: str, texts: Path, tmp_path: Path
) -> None:
    """Each run has its address, and shards theirs below; nothing is compared before all is here."""
    few = {"path": "text", "data_files": f"{texts}/[0-4].txt", "label": "few"}
    content = changed(base, name="grid", batch=1, matrix={"data": [base["data"], few]})
    del content["data"]
    Path("grid.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    names = [f"tiny--{texts.name}", "tiny--few"]
    runs = [f"{RUNS}/grid/{name}" for name in names]
    for at in ("0/2", "1/2"):
        done = probe("run", "grid.yaml", "--results", f"{RUNS}/", "--shard", at)
        assert done.exit_code == 0, done.output
        own = at.replace("/", "-of-")
        assert done.stdout.splitlines() == [f"Shard {at} is scored: {run}/{own}" for run in runs]
        for run, name in zip(runs, names, strict=True):
            assert f"Answer: probe merge '{run}/*' --into results/grid/{name}\n" in done.stderr
        assert done.stderr.endswith(
            "Comparison, once all are merged: probe compare results/grid/*/\n"
        )
    assert not (tmp_path / "results").exists()
    whole = probe("run", "grid.yaml", "--results", "here")
    assert whole.exit_code == 0, whole.output
    for run, name in zip(runs, names, strict=True):
        assert probe("merge", f"{run}/*", "--into", f"results/grid/{name}").exit_code == 0
        assert parts(Path("results/grid") / name) == parts(Path("here/grid") / name)
    before = files()
    assert probe("run", "grid.yaml", "--results", RUNS, "--shard", "1/2").exit_code == 0
    assert files() == before
    alone = probe("run", "grid.yaml", "--results", RUNS)
    assert alone.stdout.splitlines() == [f"All of it is scored: {run}" for run in runs]
    refused = probe("run", "grid.yaml", "--results", "nosuch://runs")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "Error: nosuch://runs: Protocol not known: nosuch\n"


@pytest.mark.slow
def test_a_run_at_an_address(config: str, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that fails is told, and costs no more than its unit."""
    system, calls = fsspec.filesystem("memory"), iter(range(100))
    put = system.put_file

    def failing(*given: Any, **named: Any) -> None:
        if next(calls) >= 6:
            raise PermissionError("403: Forbidden")
        put(*given, **named)

    monkeypatch.setattr("probe.results.mirror.PAUSES", (0.0,))
    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", failing)
        failed = probe("run", config, "--results", RUNS)
    assert failed.exit_code == 1
    assert f"Error: cannot write {RUNS}/tiny: 403: Forbidden; everything" in failed.stderr
    kept = {name for name in files() if "/scores/" in name}
    assert 0 < len(kept) < 8
    done = probe("run", config, "--results", f"{RUNS}/")
    assert f"resuming: {8 - len(kept)} of 8 windows remaining" in done.stderr
    assert done.stdout == f"All of it is scored: {RUNS}/tiny\n"
    assert probe("merge", f"{RUNS}/tiny", "--into", "results/tiny").exit_code == 0
    assert parts(Path("results/tiny")) == parts(whole)


def test_no_copy_is_left_of_what_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.results.scores.MERGED", 2)
    store = Store(tmp_path / "run", mirror=Mirror(f"{RUNS}/mine"))
    for at in range(5):
        store.write_part(columns(3 + at), [(f"{at}", 0, "intact", 0)])
    here = {f"/runs/mine/scores/{path.name}" for path in store.scores.iterdir()}
    assert len(here) == 3
    assert files() == here


def test_nothing_there(config: str) -> None:
    found = probe("merge", f"{RUNS}/none/*", "--into", "run")
    assert (found.exit_code, found.stderr.strip()) == (
        2,
        f"Error: no run folder at {RUNS}/none/*: there is no run.json",
    )
    fsspec.filesystem("memory").pipe("/runs/mine/run.json", b"{}")
    with pytest.raises(ProbeError, match=f"cannot read {RUNS}/mine"):
        Mirror(f"{RUNS}/mine").fetch(Path(config))
