"""Uploading to a hub on this machine: what is made, replaced and deleted, and every refusal."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, HfApi
from local_hub import DEPRECATED, TOKEN, Hub, served_hub  # noqa: F401 (fixture)
from open_runs import opened
from pyarrow import parquet
from test_card import RUNS, copied
from tiny_run import no_network  # noqa: F401 (fixture)

from probe.cards.repository import Contents, Item, contents, repository_of, upload
from probe.errors import ProbeError, UsageError

pytestmark = pytest.mark.filterwarnings(DEPRECATED)


def some(*paths: str) -> Contents:
    """A few small files, and a README that a data set must have."""
    items = [Item(path, f"{path} of ours".encode(), "test") for path in paths]
    return Contents((Item("README.md", b"---\ntags: [x]\n---\n", "card"), *items), (), ())


def of_run(folder: Path, **how: Any) -> Contents:
    with opened(folder) as run:
        return contents(run, "me/run", **how)


def written(whole: Contents, folder: Path) -> Path:
    """The files, as somebody would download them."""
    for item in whole.items:
        path = folder / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item.source, bytes):
            path.write_bytes(item.source)
        else:
            shutil.copy(item.source, path)
        assert path.stat().st_size == item.size
    return folder


def test_again(hub: Hub) -> None:
    """What an earlier upload sent and this one does not is deleted; what is not ours stays."""
    upload(some("scores/a.parquet", "report.html"), "me/run", api=HfApi())
    assert hub.private == {"me/run": True}
    hub.files["me/run"] |= {"mine.txt": b"", "LICENSE": b"", "data/x.parquet": b""}
    upload(some("scores/b.parquet"), "me/run", api=HfApi())
    others = {"mine.txt", "LICENSE", "data/x.parquet"}
    assert set(hub.files["me/run"]) == {"README.md", "scores/b.parquet"} | others
    assert hub.files["me/run"]["scores/b.parquet"] == b"scores/b.parquet of ours"


def test_public_already(hub: Hub) -> None:
    """A data set that everybody reads gets nothing that was to be private, nor the reverse."""
    hub.private["me/run"], hub.files["me/run"] = False, {}
    with pytest.raises(UsageError) as raised:
        upload(some(), "me/run", api=HfApi())
    assert str(raised.value) == (
        "data set 'me/run' is there already and public: give --public, or take another name"
    )
    assert not any("commit" in path or "preupload" in path for path in hub.paths)
    upload(some(), "me/run", public=True, api=HfApi())
    assert set(hub.files["me/run"]) == {"README.md"}
    hub.private["me/run"] = True
    with pytest.raises(UsageError, match="already and private: leave out --public"):
        upload(some("curve.csv"), "me/run", public=True, api=HfApi())
    assert set(hub.files["me/run"]) == {"README.md"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the token for 'me/run'"),
        (403, "does not let this token write to 'me/run'"),
        (429, "the hub refuses 'me/run' (429): no room"),
    ],
)
def test_refusals(status: int, said: str, hub: Hub) -> None:
    """One line, without the token."""
    hub.refuses = (status, "no room")
    with pytest.raises(ProbeError) as raised:
        upload(some(), "me/run", api=HfApi())
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_a_file_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store takes no file, its reason is told and nothing is committed."""
    answer = hub.answer

    def full(method: str, path: str, content: bytes) -> object:
        stored = path.startswith("/store/")
        return (403, {"error": "full"}) if stored else answer(method, path, content)

    monkeypatch.setattr(hub, "answer", full)
    with pytest.raises(ProbeError, match="does not let this token write"):
        upload(some("scores/a.parquet"), "me/run", api=HfApi())
    assert hub.files["me/run"] == {}


def test_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers, and where the hub's library is told to stay offline."""
    with pytest.raises(ProbeError, match="'me/run' cannot be uploaded: "):
        upload(some(), "me/run", api=HfApi(endpoint="http://127.0.0.1:9"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ProbeError, match="'me/run' cannot be uploaded: "):
        upload(some(), "me/run", api=HfApi())
    assert hub.asked == []


@pytest.mark.parametrize("address", ["hf://datasets/me/run", "hf://me/run"])
def test_addresses(address: str) -> None:
    """With and without the word ``datasets``."""
    assert repository_of(address) == "me/run"


@pytest.mark.slow
def test_card_of_the_data_set() -> None:
    """Its header tells what ``load_dataset`` reads, and a licence where one was given."""
    for licence in (None, "cc-by-4.0"):
        readme = of_run(RUNS / "few", licence=licence).items[0]
        assert isinstance(readme.source, bytes)
        card = DatasetCard(readme.source.decode())
        assert card.data.license == licence
        assert [one["config_name"] for one in card.data.configs] == ["scores", "windows"]
        assert 'load_dataset("me/run"' in card.text


@pytest.mark.slow
def test_load_dataset(tmp_path: Path) -> None:
    """A downloaded copy is read with the configurations of the card."""
    copy = written(of_run(RUNS / "sweep"), tmp_path / "copy")
    cache = str(tmp_path / "cache")
    rows = load_dataset(str(copy), "scores", split="train", cache_dir=cache)
    own = parquet.read_table(RUNS / "sweep" / "scores")
    assert sorted(rows["nll"]) == sorted(own["nll"].to_pylist())
    windows = load_dataset(str(copy), "windows", split="train", cache_dir=cache)
    assert windows.column_names == ["document", "window", "start", "tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["band", "suffix", "passages", "prompts", "dense", "longppl"])
def test_every_protocol(name: str, tmp_path: Path) -> None:
    """The numbers of its answer go, made anew from the rows; no column of the data does."""
    whole = of_run(RUNS / name)
    paths = {item.path for item in whole.items}
    assert {"run.json", "windows.parquet"} < paths
    assert any(path.endswith((".csv", "longppl.json")) for path in paths)
    copy = written(whole, tmp_path / "copy")
    text = (copy / "run.json").read_text("utf-8")
    assert '"metadata":' not in text
    assert '"group":' not in text
    texts = parquet.read_table(RUNS / name / "windows.parquet")["text"].to_pylist()
    for word in {word for text in texts for word in text.split() if len(word) > 7}:
        for item in whole.items:
            assert word.encode() not in (copy / item.path).read_bytes(), (word, item.path)


@pytest.mark.slow
@pytest.mark.parametrize("with_text", [False, True])
def test_values_of_columns(with_text: bool, tmp_path: Path) -> None:
    """Groups of documents are the data's own: without --with-text no number is told by group."""
    record = json.loads((RUNS / "sweep" / "run.json").read_text("utf-8"))
    for number, document in enumerate(record["data"]["documents"]):
        document |= {"group": f"Smith{number % 2}", "metadata": {"ward": "Smith7"}}
    folder = copied(RUNS / "sweep", tmp_path, data=record["data"])
    copy = written(of_run(folder, with_text=with_text), tmp_path / "copy")
    told = {
        path.name for path in copy.rglob("*") if path.is_file() and b"Smith" in path.read_bytes()
    }
    assert told == ({"run.json", "summary.json"} if with_text else set())


@pytest.mark.slow
@pytest.mark.parametrize("with_text", [False, True])
def test_files_that_tell_of_the_text(with_text: bool, tmp_path: Path) -> None:
    """All of them go, or none does and the reason names the option; an unknown file never goes."""
    folder = copied(RUNS / "few", tmp_path)
    known = {
        *("far_words.csv", "classes.csv", "classes.parquet", "findings.json", "report.html"),
        *("frequencies.parquet", "notes.txt"),
    }
    for name in known:
        (folder / name).touch()
    whole = of_run(folder, with_text=with_text)
    told = known - {"notes.txt"}
    assert known & {item.path for item in whole.items} == (told if with_text else set())
    reasons = dict(whole.left_out)
    assert reasons["notes.txt"] == "no file of the results that is known"
    assert {name for name in told if "(--with-text)" in reasons.get(name, "")} == told - {
        item.path for item in whole.items
    }
