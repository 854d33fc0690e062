"""No path of the machine, no secret and no column of the data stays in a record that is shared."""

import copy
import json
from typing import Any

import pytest

from probe.cards.private import (
    LEFT_OUT,
    hub_data,
    hub_model,
    last_part,
    local_names,
    shareable,
    shorten,
)

DATA = {
    "path": "/home/anna/books",
    "data_files": {"train": ["/home/anna/a b/x.txt", "https://annaa:pass@host/y.txt?token=abc"]},
    "options": {"token": "hf_secret", "storage_options": {"key": "s3"}},
}
RECORD: dict[str, Any] = {
    "name": "mine",
    "config": {
        "model": {"path": "/home/anna/models/tiny"},
        "data": DATA,
        "perturbations": ["/home/anna/own.py"],
        "conditions": ["truncate"],
        "analysis": {"classes": ["frequency", "/home/anna/own.py:rare"]},
    },
    "identity": {"model": "/home/anna/models/tiny", "data": DATA},
    "model": {
        "name": "tiny",
        "path": "/home/anna/models/tiny",
        "warnings": ["in /home/anna/x: no"],
    },
    "data": {
        "path": "/home/anna/books",
        "documents": [{"id": "x.txt", "group": "Smith", "metadata": {"ward": "7"}}],
    },
    "check": [{"reason": r"C:\Users\anna\x.gguf cannot"}],
}


def test_nothing_of_the_user_stays() -> None:
    """Neither home, user, password, token, options nor the values of columns; the record stays."""
    before = copy.deepcopy(RECORD)
    found = shareable(RECORD)
    text = json.dumps(found)
    for secret in ("anna", "home", "pass", "abc", "hf_secret", "s3", "Smith", "ward", "C:"):
        assert secret not in text, secret
    assert before == RECORD
    assert found["model"] == {"name": "tiny", "path": "tiny", "warnings": ["in …/x: no"]}
    assert found["config"]["data"]["options"] == {"token": LEFT_OUT, "storage_options": LEFT_OUT}
    assert found["config"]["data"]["data_files"] == {"train": ["x.txt", "https://host/y.txt"]}
    assert found["config"]["analysis"]["classes"] == ["frequency", "own.py:rare"]
    assert found["data"]["documents"] == [{"id": "x.txt"}]


def test_options_of_another_tool() -> None:
    """Whatever stands there, nothing of it stays."""
    found = shareable({"config": {"data": {"path": "x", "options": ["hf_secret"]}}})
    assert found["config"]["data"]["options"] == LEFT_OUT


def test_columns_go_with_the_text() -> None:
    """Group and metadata stay where the text goes; paths do not."""
    found = shareable(RECORD, with_text=True)
    assert found["data"]["documents"] == RECORD["data"]["documents"]
    assert "anna" not in json.dumps(found)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("'/home/anna/x.txt' is damaged", "'…/x.txt' is damaged"),
        ("prefix=/srv/data", "prefix=…/data"),
        (r"\\server\share\x", "…/x"),
        (r"'C:\\Users\\anna\\x.gguf' is none", "'…/x.gguf' is none"),
        (
            r"run 'evil\x1b\x1b[31m\u202e' of \n\u2028x",
            r"run 'evil\x1b\x1b[31m\u202e' of \n\u2028x",
        ),
        (r"\x1b\u202e and \ud800\udc00 in 'a'", r"\x1b\u202e and \ud800\udc00 in 'a'"),
        ("~/models/x and /a/b/c/", "…/x and …/c"),
        ("https://host/a/b and package://llm/x.gguf", "https://host/a/b and package://llm/x.gguf"),
        ("12 tokens/s, and/or 1/2/3", "12 tokens/s, and/or 1/2/3"),
        ("xml/etree/ElementInclude.py", "xml/etree/ElementInclude.py"),
    ],
)
def test_shorten(text: str, short: str) -> None:
    """Paths are cut to their end, addresses and names in a data set are no paths."""
    assert shorten(text) == short
    assert local_names([text]) == ([text] if short != text else [])


def test_last_part() -> None:
    """Hub names stay whole, folders do not."""
    assert last_part("org/model") == "org/model"
    assert last_part("./models/tiny/") == "tiny"
    assert last_part("package://llm/x.gguf") == "package://llm/x.gguf"


def test_what_is_of_the_hub() -> None:
    """A model with a commit, data with a name there; files and folders are not."""
    commit = "a" * 40
    assert hub_model({"model": {"path": "org/m", "revision": commit}}) == "org/m"
    assert hub_model({"model": {"path": "models/m", "revision": "a" * 64}}) is None
    assert hub_model({}) is None
    for path, found in {
        "org/d": "org/d",
        "stdlib": None,
        "text": None,
        "/home/x": None,
        "tests/cards": None,  # a folder that is here
    }.items():
        assert hub_data({"config": {"data": {"path": path}}}) == found
