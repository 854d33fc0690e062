"""Run folders with damaged or strange parts and windows: named, and used as far as they go."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import opened
from simulated import Simulation, write_run

from probe.errors import ProbeError
from probe.findings.base import findings
from probe.findings.key_tokens import read_window
from probe.render.page import render
from probe.results.files import damaged_pages
from probe.results.folder import read_folder
from probe.results.parts import score_parts

HOLDS = "context_probe.holds"
SMALL = {"windows": 1, "length": 64, "boundaries": (32,), "reach": 32}


@pytest.fixture(name="run")
def run_folder(tmp_path: Path) -> Path:
    """Six documents, a part each, as a run writes them: every page with its checksum."""
    curves = {"truncate": lambda distance: 0.5 / (1 + distance)}
    folder = write_run(tmp_path / "run", Simulation(curves, documents=6, **SMALL))
    for path in (folder / "windows.parquet", *score_parts(folder)):
        rewrite(path, lambda table: table)
    return folder


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **metadata: str) -> None:
    table = change(pq.read_table(path))
    if metadata:
        table = table.replace_schema_metadata({HOLDS: metadata["holds"]})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[..., pa.Table]:
    """A change of a table: another column of the same type."""

    def changed(table: pa.Table) -> pa.Table:
        values = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
        return table.set_column(table.schema.get_field_index(name), name, values)

    return changed


def of_type(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    """A change of a table: a column of another type."""
    return lambda table: table.set_column(
        table.schema.get_field_index(name), name, table[name].cast(kind)
    )


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


def bits(path: Path) -> list[int]:
    """A byte of each column's pages, behind their headers."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return [
        (column.dictionary_page_offset or column.data_page_offset)
        + column.total_compressed_size
        - 1
        for column in columns
    ]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def only_warning(run: Path) -> str:
    """What an open run says of the first part, of which the five others are used."""
    found = opened(run)
    assert len(found.documents) == 5
    return next(line for line in found.warnings if "left out" in line)


@pytest.mark.slow
def test_one_bit_of_a_part(run: Path) -> None:
    """Whatever column it is in, the part is named and the others are used."""
    part = score_parts(run)[0]
    whole = part.read_bytes()
    names = pq.read_schema(part).names
    for name, at in zip(names, bits(part), strict=True):
        part.write_bytes(whole)
        assert read_folder(run, checked=False).warnings == ()
        flip(part, at)
        told = f"scores/part-00000.parquet is left out: a page of its column {name} "
        assert only_warning(run).startswith(told)


@pytest.mark.slow
def test_checksums_are_those_of_the_format(run: Path) -> None:
    """Of many flipped bits none is missed that pyarrow, decoding all, finds by a checksum."""
    part = score_parts(run)[0]
    whole = part.read_bytes()
    assert damaged_pages(part) is None
    rng = np.random.default_rng(0)
    seen = 0
    for at in rng.integers(4, max(bits(part)), size=200).tolist():
        part.write_bytes(whole)
        flip(part, at)
        try:
            pq.ParquetFile(part, page_checksum_verification=True).read()
        except OSError as error:
            if "CRC" in str(error):
                seen += 1
                assert damaged_pages(part) is not None
    assert seen > 100


def test_parts_without_checksums(run: Path) -> None:
    """Those of earlier versions are read as before."""
    for part in score_parts(run):
        pq.write_table(pq.read_table(part), part, compression="none")
    assert read_folder(run).warnings == ()
    flip(score_parts(run)[0], bits(score_parts(run)[0])[-1])
    assert damaged_pages(score_parts(run)[0]) is None


@pytest.mark.parametrize(
    ("holds", "told"),
    [
        ("{bad", "its footer does not say what it holds"),
        ("null", "its footer holds no list of"),
        ('{"document": 1}', "its footer holds no list of"),
        ('["abcd"]', "its footer holds no list of"),
        ('[["doc000", "0", "truncate", 0]]', "its footer holds no list of"),
    ],
)
def test_a_footer_that_holds_something_else(run: Path, holds: str, told: str) -> None:
    """The part is named and left out."""
    rewrite(score_parts(run)[0], lambda table: table, holds=holds)
    assert told in only_warning(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.slice(0, 0), "it has no rows"),
        (with_column("condition", first(None)), "1 of its 96 rows have no condition"),
        (with_column("distance", first(None)), "1 of its 96 rows have no distance"),
        (with_column("window", first(None)), "1 of its 96 rows have no window"),
        (with_column("distance", first(2**31 - 1)), "it has a distance of 2,147,483,647 tokens"),
        (with_column("distance", first(-2)), "its lowest distance is -2; allowed: -1 or more"),
        (of_type("nll", pa.string()), "its column nll is string; allowed: a floating number"),
    ],
)  # fmt: skip
def test_strange_rows(run: Path, change: Callable[..., pa.Table], told: str) -> None:
    """The part is named and left out, with statistics in its footer and without."""
    part = score_parts(run)[0]
    rewrite(part, change)
    assert told in only_warning(run)
    pq.write_table(pq.read_table(part), part, write_statistics=False)
    assert told in only_warning(run)


@pytest.mark.slow
def test_a_copy_of_another_tools_part(run: Path) -> None:
    """Parts that do not say what they hold count once too, told by their bytes."""
    part = score_parts(run)[0]
    plain = opened(run)
    shutil.copy(part, part.with_name("part-copy.parquet"))
    found = opened(run)
    assert found.curve.equals(plain.curve)
    assert "part-copy.parquet is left out: it holds what part-00000.parquet" in found.warnings[0]


def test_scores_that_are_no_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the way, or a folder that may not be read, is not a run without scores."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(ProbeError, match="scores' cannot be read: Permission denied"):
            read_folder(run)
    shutil.rmtree(run / "scores")
    with pytest.raises(ProbeError, match="nothing has been scored yet"):
        read_folder(run)
    (run / "scores").write_text("")
    with pytest.raises(ProbeError, match="scores' is a file; allowed: a folder of score parts"):
        read_folder(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["char_start", "char_end"]),
        lambda table: table.drop_columns(["char_end"]),
        with_column("char_start", lambda lists: [None] * len(lists)),
        with_column("char_end", lambda lists: [ends[:-1] for ends in lists]),
    ],
)
def test_windows_without_offsets(run: Path, change: Callable[..., pa.Table]) -> None:
    """All is reported that needs no text, and what is left out is said."""
    plain = opened(run)
    rewrite(run / "windows.parquet", change)
    found = opened(run, classes=["kind"])
    told = "windows.parquet of 'run' has no offset for each token of 6 windows: their text is left"
    assert found.warnings[0].startswith(told)
    assert found.curve.equals(plain.curve)
    window = read_window(found.connection, "doc000", 0)
    assert window is not None
    assert (window.text, len(window.ids), len(window.char_start)) == (None, 64, 0)
    assert "#63" in render([found], [findings(found)])  # a token's number instead of its text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_column("start", first(None)), "has 1 of its windows without start"),
        (with_column("start", first(-1)), "has -1 as the start of a window; allowed: 0 or more"),
        (with_column("token_ids", first(None)), "has 1 of its windows without token_ids"),
        (with_column("token_ids", first([None])), "has 1 of its windows without token_ids"),
        (with_column("char_end", first([None] * 64)), "has 1 of its windows without char_end"),
        (with_column("document", first(None)), "has 1 of its windows without document"),
        (lambda table: pa.concat_tables([table, table.slice(2, 1)]),
         "has 1 of its windows more than once, the first is window 0 of document 'doc002'"),
        (lambda table: table.drop_columns(["text"]), "lacks the columns text"),
        (of_type("start", pa.float64()), "has a column start of double; allowed: whole numbers"),
    ],
)  # fmt: skip
def test_unusable_windows(run: Path, change: Callable[..., pa.Table], told: str) -> None:
    """One line says what is wrong with the file, and how to have it back."""
    rewrite(run / "windows.parquet", change)
    with pytest.raises(ProbeError, match="call probe run with its configuration again") as caught:
        opened(run)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_windows(run: Path) -> None:
    """One bit is told; so is a window that ends before its targets."""
    path = run / "windows.parquet"
    whole = path.read_bytes()
    flip(path, bits(path)[3])
    with pytest.raises(ProbeError, match=r"windows\.parquet' is damaged: a page of its column"):
        read_folder(run, checked=False)
    path.write_bytes(whole)
    cut = pq.read_table(path)
    for name in ("token_ids", "char_start", "char_end"):
        cut = with_column(name, lambda lists: [one[:40] for one in lists])(cut)
    rewrite(path, lambda _: cut)
    with pytest.raises(ProbeError, match=r"has 40 tokens from 0 on in window 0 .* target at 63"):
        opened(run)


@pytest.mark.slow
def test_a_part_of_an_unknown_window(run: Path) -> None:
    """Also one whose number no bit stands for is named as what it is."""
    rewrite(score_parts(run)[0], with_column("window", first(2**31 - 1)))
    with pytest.raises(ProbeError, match=r"lacks 1 window that was scored, .* 2147483647"):
        opened(run)


def test_what_is_looked_at_once_is_looked_at_again_when_it_changes(run: Path) -> None:
    """Footers are kept by the state of the file."""
    part = score_parts(run)[0]
    assert read_folder(run, checked=False).warnings == ()
    record = json.dumps([["doc001", 0, "intact", 0]])
    rewrite(part, lambda table: table, holds=record)
    rewrite(score_parts(run)[1], lambda table: table, holds=record)
    assert "it holds what part-00000.parquet holds" in read_folder(run, checked=False).warnings[0]
