"""What users see of kept runs stays as it was, to the letter and to six digits.

After a change on purpose: ``python tests/golden/make.py --expected [CASE …]``, and read the diff.
"""

import csv
import difflib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pyarrow.parquet as pq
import pytest
from golden_cases import CASES, HERE, UNFINISHED, case_folder, place_inputs
from golden_outputs import FIGURES, FILES, PAGES, PRINTED, TABLES, outputs
from tiny_run import no_network  # noqa: F401 (fixture)

from probe.commands.main import COMMANDS, _command
from probe.protocols import registry

pytestmark = pytest.mark.slow

RELATIVE, ABSOLUTE = 1e-6, 1e-9
NATS = 1e-4
ANEW = ("band", "longppl-near", "suffix-at", "dense", "prompts", "pool", "heads")
KEY = ["document", "window", "condition", "repeat", "boundary", "position"]
Found = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, texts and configurations; what a case needs of them is copied."""
    folder = tmp_path_factory.mktemp("inputs")
    place_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def found(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What a case prints and writes now; each is run once, whoever asks first."""
    kinds = registry.kinds(registry.is_builtin)  # other tests register some of their own
    known = {kind: registry.protocol_of(kind) for kind in kinds}
    for name in COMMANDS:  # click keeps the options of help of whoever asked for it first
        _command(name)._help_option = None

    @cache
    def run(case: str) -> dict[str, str]:
        with patch.object(registry, "_KINDS", known):
            return outputs(CASES[case], case_folder(case, tmp_path_factory.mktemp(case), inputs))

    return run


def expected(case: str) -> dict[str, str]:
    """The same, as it is kept."""
    place = HERE / "expected" / case
    files = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_text(encoding="utf-8") for path in files}


def with_files(endings: tuple[str, ...]) -> list[str]:
    """The cases of which such files are kept."""
    return [case for case in CASES if any(name.endswith(endings) for name in expected(case))]


def assert_text(case: str, name: str, now: str, then: str) -> None:
    """Equal, or the lines that differ."""
    if now != then:
        lines = difflib.unified_diff(
            then.splitlines(), now.splitlines(), f"expected/{case}/{name}", "now", lineterm="", n=1
        )
        pytest.fail("\n".join(list(lines)[:60]), pytrace=False)


def differences(now: Any, then: Any, place: str = "") -> Iterator[str]:
    """Where two values differ by more than another processor explains."""
    if isinstance(then, dict) and isinstance(now, dict):
        if list(now) != list(then):
            yield f"{place}: keys {list(now)}, expected {list(then)}"
        for key in then.keys() & now.keys():
            yield from differences(now[key], then[key], f"{place}.{key}")
    elif isinstance(then, list) and isinstance(now, list):
        if len(now) != len(then):
            yield f"{place}: {len(now)} entries, expected {len(then)}"
        for number, (one, other) in enumerate(zip(now, then, strict=False)):
            yield from differences(one, other, f"{place}[{number}]")
    elif isinstance(then, float) and isinstance(now, int | float):
        near = math.isclose(now, then, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        if not near and not (math.isnan(now) and math.isnan(then)):
            yield f"{place}: {now!r}, expected {then!r}"
    elif now != then or type(now) is not type(then):
        yield f"{place}: {now!r}, expected {then!r}"


def values(name: str, text: str) -> Any:
    """A JSON file, or the cells of a CSV file by column, numbers as numbers."""
    if name.endswith(".json"):
        return json.loads(text)
    head, *rows = csv.reader(io.StringIO(text))
    return {
        "columns": head,
        "rows": [
            {column: number(cell) for column, cell in zip(head, row, strict=True)} for row in rows
        ],
    }


def number(cell: str) -> str | float:
    """A cell as a number, where it is one that was measured; whole numbers stay text."""
    try:
        return cell if cell.lstrip("-").isdigit() else float(cell)
    except ValueError:
        return cell


@pytest.mark.parametrize("case", CASES)
def test_printed(case: str, found: Found) -> None:
    """A command prints the same and writes the same files."""
    now, then = found(case), expected(case)
    assert_text(case, PRINTED, now[PRINTED], then[PRINTED])
    assert_text(case, FILES, now.get(FILES, ""), then.get(FILES, ""))


@pytest.mark.parametrize("case", with_files(TABLES))
def test_tables(case: str, found: Found) -> None:
    """Its CSV and JSON files have the same keys, columns, rows and numbers."""
    now, then = found(case), expected(case)
    for name in (name for name in then if name.endswith(TABLES)):
        told = list(differences(values(name, now.get(name, "")), values(name, then[name])))
        if told:
            where = f"expected/{case}/{name}: {len(told)} differences"
            pytest.fail("\n".join([where, *told[:20]]), pytrace=False)


@pytest.mark.parametrize("case", with_files(PAGES))
def test_pages(case: str, found: Found) -> None:
    """Its pages say the same."""
    now, then = found(case), expected(case)
    for name in (name for name in then if name.endswith(PAGES)):
        assert_text(case, name, now.get(name, ""), then[name])


@pytest.mark.parametrize("case", with_files(FIGURES))
def test_figures(case: str, found: Found) -> None:
    """Its figures have the same texts; how they are drawn is not compared."""
    now, then = found(case), expected(case)
    for name in (name for name in then if name.endswith(FIGURES)):
        assert_text(case, name, now.get(name, ""), then[name])


def rows(run: Path) -> pd.DataFrame:
    """All scores of a run, in one order."""
    parts = [pq.read_table(part).to_pandas() for part in sorted(run.glob("scores/*.parquet"))]
    frame = pd.concat([part.astype({"document": str, "condition": str}) for part in parts])
    return frame.sort_values(KEY, ignore_index=True)


def test_resumed(inputs: Path, tmp_path: Path) -> None:
    """A kept, unfinished run goes on with the model made anew, and ends with the kept rows."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    run = Path(shutil.copytree(HERE / "runs" / UNFINISHED, tmp_path / "results" / "finished"))
    before = len(rows(run))
    printed = outputs(["run", "finished.yaml"], tmp_path)[PRINTED]
    assert "note: resuming: 7 of 12 windows remaining" in printed
    now, then = rows(run), rows(HERE / "runs" / "finished")
    assert 0 < before < len(then)
    losses = ["nll", "nll_intact"]
    pd.testing.assert_frame_equal(now.drop(columns=losses), then.drop(columns=losses))
    assert (now[losses] - then[losses]).abs().to_numpy().max() < NATS
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "complete"


@pytest.mark.parametrize("name", ANEW)
def test_scored_anew(name: str, inputs: Path, tmp_path: Path) -> None:
    """A run that is scored anew has the kept rows; sweep alone is not here, but resumed above."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    outputs(["run", f"{name}.yaml"], tmp_path)
    now, then = rows(tmp_path / "results" / name), rows(HERE / "runs" / name)
    measured = [column for column in then if then[column].dtype == "float32"]
    pd.testing.assert_frame_equal(now.drop(columns=measured), then.drop(columns=measured))
    assert (now[measured] - then[measured]).abs().to_numpy().max() < NATS
