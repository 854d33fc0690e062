"""How long the longest context of a run with protocol dense is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def longest_context(record: Mapping[str, Any]) -> int | None:
    """Longest context (tokens) of a run with protocol dense, ``None`` for any other.

    Args:
        record: Content of its ``run.json``.
    """
    protocol = (record.get("config") or {}).get("protocol") or {}
    context = protocol.get("context")
    if protocol.get("kind") != "dense" or type(context) is not int:
        return None
    return context


def far_tokens(folder: Path) -> str:
    """SQL for the tokens of a row's far context, by ``boundary``, ``distance`` and ``start``.

    Far text begins with the window (``start``); with protocol dense it begins with the longest
    context of the target, which is what the target's loss is compared with.

    Args:
        folder: The run folder; without a readable ``run.json`` far text begins with the window.
    """
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        context = longest_context(record)
    except (OSError, ValueError, AttributeError):
        context = None
    return "boundary - start" if context is None else f"{context} - distance"
