"""What a resume knows to be whole: read once, and again when it changed or damage was found."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_merged_parts import filled
from test_scores import columns

from probe.results import whole_files
from probe.results.footer import Key
from probe.results.scores import Store
from probe.results.whole_files import NAME, WholeFiles, is_readable


@pytest.fixture(name="looked_at")
def files_that_are_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def looked(path: Path) -> bool:
        found.append(path.name)
        return is_readable(path)

    monkeypatch.setattr(whole_files, "is_readable", looked)
    return found


def damage(part: Path) -> None:
    """Change a byte of the first page, and nothing that a directory tells of the file."""
    before, content = part.stat(), bytearray(part.read_bytes())
    content[len(content) // 4] ^= 0xFF
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


def test_damage_that_a_reader_found_is_put_aside(tmp_path: Path, looked_at: list[str]) -> None:
    filled(tmp_path)
    part = min((tmp_path / "scores").iterdir())
    damage(part)
    assert Store(tmp_path).clean() == []  # of the same size and time: a report reads every page
    WholeFiles(tmp_path).forget()
    assert [path.stem for path in Store(tmp_path).clean()] == [part.stem]


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


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    store = filled(tmp_path, units=1)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()  # nothing can be written there
    rows = columns(1, document=np.full(1, "b", dtype=object))
    store.write_part(rows, [Key("b", 0, "intact", 0)])
    assert Store(tmp_path).clean() == []
