"""A run folder as a data set on the hub: what goes, what stays at home, and the upload."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    DatasetCardData,
    HfApi,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in __all__

from probe.analysis.open_run import OpenRun
from probe.cards.card import make_card
from probe.cards.markdown import markdown, table
from probe.cards.private import local_names, shareable
from probe.cards.row_hash import COLUMNS
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, file_texts, findings
from probe.text import one_line, shown

FLAG = "--with-text"
FIGURES = ("png", "svg")
_ADDRESS = re.compile(r"hf://(?:datasets/)?((?!datasets/)[\w.-]+/[\w.-]+)", re.ASCII)
_TEXTS = {
    "frequencies.parquet": "how often each token id occurs in the text",
    "population.parquet": "token ids of windows of documents that were not scored",
    "classes.parquet": "labels of every token",
    "classes.csv": "curves by label, which data or a user's own function gave",
    "far_words.csv": "words that need far context, and where they stand",
    "findings.json": "tables of `probe report`, also by label and token",
    "report.html": "the page, in which the text stands",
}
"""Files of a run folder that tell of the text, besides ``windows.parquet``."""
_KEPT = {
    "README.md": "this card",
    "run.json": "configuration, versions, documents, self-check; without paths of the machine",
    "windows.parquet": "where windows begin, and how many tokens they have",
    "summary.json": "the answers",
    "curve.csv": "delta by condition and distance",
}
_TEXT_IS_THERE = "A downloaded copy is a run folder: `probe report` explains it."
_TEXT_IS_NOT = (
    "Text and token ids are not part of it: every number can be worked out from the rows, but"
    " `probe report`, which shows tokens, needs a run folder with its text."
)


@dataclass(frozen=True)
class Item:
    """A file that goes into the data set.

    Args:
        path: Its path there.
        source: The file here, or its content.
        what: What it holds.
    """

    path: str
    source: Path | bytes
    what: str

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


@dataclass(frozen=True)
class Contents:
    """What goes, and what does not.

    Args:
        items: The files that go.
        left_out: The files of the folder that do not, with the reason.
        names: Names of documents, which go with the rows.
    """

    items: tuple[Item, ...]
    left_out: tuple[tuple[str, str], ...]
    names: tuple[str, ...]


def contents(
    run: OpenRun,
    repository: str,
    *,
    with_text: bool = False,
    licence: str | None = None,
) -> Contents:
    """Choose what of a run folder is shared; only files that are known are.

    Numbers are worked out anew, from the rows and the record that is shared: nothing that another
    program has written into the folder, and no value of the data's columns, can go along in them.

    Args:
        run: The open run, of which nothing has been worked out yet.
        repository: Name of the data set on the hub, ``user/name``.
        with_text: Whether text, token ids and what tells of them may go.
        licence: The hub's identifier of a licence, where the user gives one.

    Raises:
        UsageError: If names that go with the rows are paths of this machine, or another tool has
            put columns into the rows.
    """
    names = tuple(map(str, run.documents))
    conditions = list(run.facts.plan.conditions)
    if not with_text and (paths := local_names([*names, *conditions])):
        raise UsageError(
            f"run '{run.name}': names of documents or conditions are paths of this machine, such as"
            f" {shown(paths[0])}, and stand in every row; allowed: {FLAG}"
        )
    if not with_text:
        _refuse_unknown_columns(run)
    folder = replace(run.folder, record=shareable(run.record, with_text=with_text))
    run = OpenRun(folder, run.connection, run.analysis, write=False)
    found = findings(run, brief=True)
    items = [*_items(run, found, with_text=with_text)]
    sent = {item.path for item in items}
    left_out = tuple(
        (name, _reason(name, with_text))
        for name in _files(run.path)
        if name not in sent or (name == "windows.parquet" and not with_text)
    )
    told = [("README.md", _KEPT["README.md"])]
    told += [(item.path, item.what) for item in items if not item.path.startswith("scores/")]
    told += [("scores/", "the rows: a loss by target, condition, boundary and repeat")]
    card = _dataset_card(run, found, repository, told, with_text=with_text, licence=licence)
    readme = Item("README.md", str(card).encode("utf-8", "backslashreplace"), _KEPT["README.md"])
    return Contents((readme, *items), left_out, names)


def repository_of(address: str) -> str:
    """The data set that an address names.

    Args:
        address: ``hf://datasets/user/name`` or ``hf://user/name``.

    Raises:
        UsageError: If it is something else.
    """
    found = _ADDRESS.fullmatch(address)
    with suppress(HFValidationError):
        if found is not None:
            validate_repo_id(found[1])
            return found[1]
    raise UsageError(
        f"{shown(address)} is no address of a data set; allowed: hf://datasets/<user>/<name>"
    )


def upload(whole: Contents, repository: str, *, public: bool = False, api: HfApi) -> str:
    """Make the data set where it is not there yet, and commit the files to it.

    Score parts of an earlier upload that are gone, and text that no longer goes, are deleted in the
    same commit; the data set's history keeps them.

    Args:
        whole: What goes.
        repository: Its name, ``user/name``.
        public: Whether everybody may read it.
        api: The hub, with the user's token.

    Returns:
        The address of the data set.

    Raises:
        UsageError: If it is there already, and public where it was to be private, or the reverse.
        ProbeError: If the hub cannot be reached, or refuses.
    """
    try:
        address = api.create_repo(
            repository, repo_type="dataset", private=not public, exist_ok=True
        )
        info = api.dataset_info(repository)
        if bool(info.private) == public:  # its visibility is the user's own to change
            how, allowed = ("private", "leave out") if info.private else ("public", "give")
            raise UsageError(
                f"data set '{repository}' is there already and {how}: {allowed} --public, or take"
                " another name"
            )
        sent = {item.path for item in whole.items}
        there = {sibling.rfilename for sibling in info.siblings or ()}
        gone = sorted(name for name in there - sent if _is_ours(name))
        api.create_commit(
            repository,
            [
                *(CommitOperationAdd(item.path, _source(item)) for item in whole.items),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message="Rows and card of a run of context-probe",
            repo_type="dataset",
        )
    except (HTTPError, OfflineModeIsEnabled, HFValidationError, ValueError, RuntimeError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(_refusal(repository, error)) from error
    return str(address)


def _items(run: OpenRun, found: Sequence[Finding], *, with_text: bool) -> Iterator[Item]:
    """The files that go, but for the card."""
    record = json.dumps(run.record, indent=1, ensure_ascii=False)
    yield Item("run.json", f"{record}\n".encode(), _KEPT["run.json"])
    windows = run.path / "windows.parquet"
    if with_text:
        yield Item("windows.parquet", windows, "text and token ids of the windows")
    else:
        yield Item("windows.parquet", _without_text(windows), _KEPT["windows.parquet"])
    for name, text in file_texts(found).items():
        if name not in _TEXTS:
            what = _KEPT.get(name, "numbers of the answer")
            yield Item(name, text.encode("utf-8", "backslashreplace"), what)
    charts = [chart for one in found if one.level == "answer" for chart in one.charts if chart.file]
    for chart in charts:
        for ending in FIGURES:
            name = f"figures/{chart.file}.{ending}"
            if (run.path / name).is_file():
                yield Item(name, run.path / name, chart.title)
    for name, what in _TEXTS.items() if with_text else ():
        if (run.path / name).is_file():
            yield Item(name, run.path / name, what)
    for part in run.folder.parts:
        yield Item(f"scores/{part.name}", part, "rows")


def _refuse_unknown_columns(run: OpenRun) -> None:
    """Refuse rows in which something else stands than we have written there."""
    for part in run.folder.parts:
        if others := sorted(set(pq.read_schema(part).names) - set(COLUMNS)):
            raise UsageError(
                f"'{part}' has columns that may tell of the text: {shown(', '.join(others))};"
                f" allowed: {', '.join(COLUMNS)}, or {FLAG}"
            )


def _without_text(windows: Path) -> bytes:
    """``windows.parquet`` with the number of tokens in place of the tokens and their text."""
    rows = pq.read_table(windows, columns=["document", "window", "start", "token_ids"])
    tokens = pc.list_value_length(rows["token_ids"])
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.drop_columns("token_ids")
        .append_column("tokens", tokens)
        .replace_schema_metadata(None),
        sink,
        compression="zstd",
    )
    return bytes(sink.getvalue())


def _files(folder: Path) -> list[str]:
    """The files of a run folder by their path in it, in order; links are not followed."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _reason(name: str, with_text: bool) -> str:
    if name == "windows.parquet" or (name in _TEXTS and not with_text):
        told = _TEXTS.get(name, "text and token ids; where windows lie goes without them")
        return f"{told} ({FLAG})"
    if name.startswith("scores/"):
        return "cannot be read, or stands in another part"
    return "no file of the results that is known"


def _is_ours(name: str) -> bool:
    """Whether an earlier upload put a file there."""
    known = {*_TEXTS, *_KEPT}
    return name in known or PurePosixPath(name).match("scores/*.parquet")


def _source(item: Item) -> str | bytes:
    return item.source if isinstance(item.source, bytes) else str(item.source)


def _dataset_card(
    run: OpenRun,
    found: Sequence[Finding],
    repository: str,
    told: Sequence[tuple[str, str]],
    *,
    with_text: bool,
    licence: str | None,
) -> DatasetCard:
    """The data set's README: what the hub reads of it, the run's card, its files."""
    card = make_card(run, found)
    figure = next((name for name, _ in told if name.endswith(".png")), None)
    configs = [  # of one format: `datasets` reads all with the same builder
        {"config_name": "scores", "data_files": "scores/*.parquet", "default": True},
        {"config_name": "windows", "data_files": "windows.parquet"},
    ]
    data = DatasetCardData(
        license=licence,
        pretty_name=f"context-probe: {card.run}",
        tags=["context-probe", "long-context", "evaluation"],
        configs=configs,
    )
    text = "\n\n".join(
        [
            markdown(card, figure=figure).rstrip("\n"),
            "## Files",
            table(["file", "what it holds"], told),
            f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("{repository}",'
            ' "scores", split="train")\n```',
            _TEXT_IS_THERE if with_text else _TEXT_IS_NOT,
        ]
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")


def _refusal(repository: str, error: BaseException) -> str:
    """What the hub, or the way to it, says, in one line."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of a file among many
        return _refusal(repository, error.__cause__)
    if not isinstance(error, HfHubHTTPError):
        return f"'{repository}' cannot be uploaded: {one_line(error)}"
    status = error.response.status_code
    if status == 401:
        return (
            f"the hub does not accept the token for '{repository}' (401); allowed: HF_TOKEN, or"
            " `hf auth login`, with the right to write"
        )
    if status == 403:
        return f"the hub does not let this token write to '{repository}' (403)"
    said = one_line(error.server_message or "no reason is given")
    return f"the hub refuses '{repository}' ({status}): {said}"
