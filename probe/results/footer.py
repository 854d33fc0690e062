"""What a score part says of itself in its footer: what it holds, and of which run it is."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter, ValidationError

from probe.results.verified_files import VerifiedFiles

HOLDS = b"context_probe.holds"
"""Where a part's footer says what the part holds."""
IDENTITY = b"context_probe.identity"
"""Where it says of which run it is: that run's ``identity_hash``."""


Key: TypeAlias = tuple[str, int, str, int]
"""What is scored as one: a condition's draw on a window."""
KEY = ("document", "window", "condition", "repeat")
"""Its parts, as columns of a score part. A plain tuple is read four times as fast as a named one,
and a run may have millions."""
_KEYS = TypeAdapter(list[Key], config=ConfigDict(strict=True))
OF_ANOTHER = "of another run: of another model, other data, windows, protocol or seed"


def identity_hash(identity: Mapping[str, Any]) -> str:
    """A name for what two runs must share to stand in one folder.

    Args:
        identity: As run.json has it.
    """
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_of_another(schema: pa.Schema, identity: str | None) -> bool:
    """Whether a part says that it is of another run than the one with this ``identity_hash``."""
    said = (schema.metadata or {}).get(IDENTITY)
    return said is not None and identity is not None and said != identity.encode()


def held_keys(schema: pa.Schema) -> list[Key]:
    """What a score part holds, by the word of its footer.

    Args:
        schema: The part's schema.

    Raises:
        ValueError: If the footer says nothing of it, or what it says is no list of keys.
    """
    try:
        return _KEYS.validate_json((schema.metadata or {}).get(HOLDS, b""))
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise ValueError("its footer does not say what it holds") from error
        words = "its footer holds no list of document, window, condition and repeat"
        raise ValueError(words) from error


def text_of(keys: Iterable[Key]) -> str:
    """What a part holds, as its footer says it."""
    return json.dumps(list(keys), ensure_ascii=False)


def part_schema(part: Path) -> pa.Schema:
    """The schema of a part as it is now; a file is looked at once."""
    return _footer_of(part, _state(part))[0]


def part_keys(part: Path) -> tuple[Key, ...]:
    """What a part holds, by the word of its footer, see :func:`held_keys`."""
    keys = _footer_of(part, _state(part))[1]
    if isinstance(keys, str):
        raise ValueError(keys)
    return keys


def _state(part: Path) -> tuple[int, int, int]:
    state = part.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@lru_cache(maxsize=4096)  # a run goes on past parts that were merged long ago
def _footer_of(part: Path, state: tuple[int, int, int]) -> tuple[pa.Schema, tuple[Key, ...] | str]:
    """The schema of a file in a state, and its keys or why it has none."""
    schema = pq.read_schema(part)
    try:
        return schema, tuple(held_keys(schema))
    except ValueError as error:
        return schema, str(error)


def is_verified(part: Path, known: VerifiedFiles) -> bool:
    """Whether a part says what it holds and can be read to its end.

    Args:
        part: The part.
        known: What is known of its run folder's files.
    """
    try:
        part_keys(part)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return known.holds(part)
