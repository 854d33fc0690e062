"""What a resume knows to be whole: read once, and again when it changed or damage was found."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_merged_parts import filled, merged_by_three  # noqa: F401 (a fixture)
from test_scores import columns

from probe.errors import ProbeError
from probe.results import verified_files
from probe.results.parts import check_parts
from probe.results.scores import Store
from probe.results.verified_files import NAME, VerifiedFiles, is_readable


@pytest.fixture(name="looked_at")
def files_that_are_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def looked(path: Path) -> bool:
        found.append(path.name)
        return is_readable(path)

    monkeypatch.setattr(verified_files, "is_readable", looked)
    return found


def damage(part: Path) -> None:
    """Change a byte of the first page, and nothing that a directory tells of the file."""
    before, content = part.stat(), bytearray(part.read_bytes())
    content[40] ^= 0xFF
    part.write_bytes(content)
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_part_that_was_written_is_not_read_again(tmp_path: Path, looked_at: list[str]) -> None:
    keys = filled(tmp_path).held()[0]
    again = Store(tmp_path)
    assert again.clean() == []
    assert again.held() == (keys, [])
    assert looked_at == []


def test_without_the_list_every_part_is_read_once(tmp_path: Path, looked_at: list[str]) -> None:
    filled(tmp_path)
    (tmp_path / NAME).unlink()
    Store(tmp_path).clean()
    parts = sorted(part.name for part in (tmp_path / "scores").iterdir())
    assert looked_at == parts
    Store(tmp_path).clean()
    assert looked_at == parts


def test_a_part_that_changed_is_read_and_put_aside(tmp_path: Path, looked_at: list[str]) -> None:
    filled(tmp_path)
    part = min((tmp_path / "scores").iterdir())
    damage(part)
    os.utime(part)
    assert [path.stem for path in Store(tmp_path).clean()] == [part.stem]
    assert looked_at == [part.name]


def test_damage_that_a_reader_found_is_put_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    parts = sorted((tmp_path / "scores").iterdir())
    damage(parts[0])
    assert Store(tmp_path).clean() == []  # of the same size and time: a report reads every page
    problems, _, _ = check_parts(parts, rows=True, starts=True)
    assert list(problems) == parts[:1]
    assert [path.stem for path in Store(tmp_path).clean()] == [parts[0].stem]


@pytest.mark.usefixtures("few")
def test_damage_that_merging_found_is_put_aside(tmp_path: Path) -> None:
    """One line says what was read, and the next call goes on."""
    store = filled(tmp_path, units=2)
    part = min(store.scores.iterdir())
    damage(part)
    rows = columns(1, document=np.full(1, "c", dtype=object))
    with pytest.raises(ProbeError, match=rf"{part.name} is damaged: .*; run the same command"):
        store.write_part(rows, [("c", 0, "intact", 0)])
    again = Store(tmp_path)
    assert [path.stem for path in again.clean()] == [part.stem]
    assert len(again.held()[0]) == 2


def test_a_file_that_goes_while_it_is_looked_at(tmp_path: Path) -> None:
    """Another shard has merged it."""
    files = VerifiedFiles(tmp_path)
    files.add(tmp_path / "scores" / "gone.parquet")
    assert not files.knows(tmp_path / "scores" / "gone.parquet")
    assert not files.holds(tmp_path / "scores" / "gone.parquet")


@pytest.mark.parametrize("line", ["12 34", "", "12 34 scores/\udcff", "x y z", "1 2 3 4 5"])
def test_lines_that_say_nothing(tmp_path: Path, line: str, looked_at: list[str]) -> None:
    filled(tmp_path, units=2)
    path = tmp_path / NAME
    text = path.read_text() + line
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert Store(tmp_path).clean() == []
    assert looked_at == []


def test_files_that_are_gone_leave_the_list(tmp_path: Path) -> None:
    store = filled(tmp_path, units=3)
    gone = min(store.scores.iterdir())
    gone.unlink()
    Store(tmp_path).clean()
    lines = (tmp_path / NAME).read_text().splitlines()
    assert len(lines) == 2
    assert not any(gone.name in line for line in lines)


def test_a_list_that_says_all_is_not_written_again(tmp_path: Path) -> None:
    """Nor is there one of a folder without files, which may be removed again."""
    store = filled(tmp_path / "run", units=3)
    path = tmp_path / "run" / NAME
    min(store.scores.iterdir()).unlink()
    Store(tmp_path / "run").clean()
    before = path.stat().st_mtime_ns, path.read_text()
    assert len(before[1].splitlines()) == 2
    Store(tmp_path / "run").clean()
    assert (path.stat().st_mtime_ns, path.read_text()) == before
    Store(tmp_path / "empty").clean()
    assert not (tmp_path / "empty").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    store = filled(tmp_path, units=1)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()  # nothing can be written there
    rows = columns(1, document=np.full(1, "b", dtype=object))
    store.write_part(rows, [("b", 0, "intact", 0)])
    assert Store(tmp_path).clean() == []
