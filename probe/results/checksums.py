"""Checksums of parquet pages: whether a file's bytes are those that were written.

DuckDB, which reads the rows, does not look at them, and pyarrow does so only while it decodes every
value. A page's checksum is that of its compressed bytes, so that they need no decoding here.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

_SIZE, _CRC = 3, 4  # fields of the format's PageHeader
_INTEGERS = {4, 5, 6}  # i16, i32 and i64 of Thrift's compact protocol, all of them varints
_BOOLS = {1, 2}
_BINARY, _LISTS, _STRUCT = 8, {9, 10}, 12
_FIXED = {3: 1, 7: 8}  # byte and double


def damage(path: Path, footer: pq.FileMetaData) -> str | None:
    """What is wrong with the pages of a parquet file.

    Args:
        path: The file.
        footer: Its footer.

    Returns:
        One line, ``None`` where all checksums hold or the file was written without them.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as stream:
        for name, first, size in _chunks(footer):
            try:
                checked = _holds(_bytes(stream, first, size))
            except (IndexError, ValueError, RecursionError):
                return f"a page of its column {name} is damaged"
            if checked is None:
                return None
            if not checked:
                return f"a page of its column {name} has another checksum than when it was written"
    return None


def _chunks(footer: pq.FileMetaData) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and bytes of each column's pages, row group by row group."""
    for group in map(footer.row_group, range(footer.num_row_groups)):
        if not group.num_rows:  # what stands there of pages differs between writers
            continue
        for column in map(group.column, range(group.num_columns)):
            first = column.data_page_offset
            if column.has_dictionary_page:
                first = min(first, column.dictionary_page_offset)
            yield column.path_in_schema.partition(".")[0], first, column.total_compressed_size


def _bytes(stream: BinaryIO, first: int, size: int) -> bytes:
    stream.seek(first)
    found = stream.read(size)
    if len(found) < size:
        raise ValueError("the file ends before its pages")
    return found


def _holds(pages: bytes) -> bool | None:
    """Whether all pages of a column chunk have their checksum, ``None`` where one has none.

    Raises:
        IndexError: If a header runs beyond the chunk.
        ValueError: If a header is none, or a page runs beyond the chunk.
    """
    at, whole = 0, memoryview(pages)
    while at < len(pages):
        at, fields = _header(pages, at)
        end = at + fields.get(_SIZE, -1)
        if not at <= end <= len(pages):
            raise ValueError("a page without its size")
        if _CRC not in fields:
            return None
        if zlib.crc32(whole[at:end]) != fields[_CRC] & 0xFFFFFFFF:
            return False
        at = end
    return True


def _header(data: bytes, at: int) -> tuple[int, dict[int, int]]:
    """The end of the Thrift struct that begins at *at*, and its integers by number of the field."""
    integers: dict[int, int] = {}
    number = 0
    while (byte := data[at]) != 0:
        at += 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _integer(data, at)
        if byte & 15 in _INTEGERS:
            integers[number], at = _integer(data, at)
        elif byte & 15 not in _BOOLS:  # the kind of a bool is its value
            at = _skipped(data, at, byte & 15)
    return at + 1, integers


def _skipped(data: bytes, at: int, kind: int) -> int:
    """Where a value of this kind ends."""
    if kind in _FIXED:
        return at + _FIXED[kind]
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in _LISTS:
        size, inner = data[at] >> 4, data[at] & 15
        size, at = _varint(data, at + 1) if size == 15 else (size, at + 1)
        if size > len(data):
            raise ValueError("a list longer than the pages")
        for _ in range(size):
            at = at + 1 if inner in _BOOLS else _skipped(data, at, inner)
        return at
    if kind == _STRUCT:
        return _header(data, at)[0]
    raise ValueError(f"no kind {kind} in a page's header")


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:  # longer ones hold more than 64 bits: damage
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")
