"""A run: every row is what a plain forward of the text it names gives, and none is scored twice."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from models import plain_logp, tiny
from numpy.typing import NDArray
from tiny_run import (  # noqa: F401 (fixtures)
    LENGTHS,
    base_configuration,
    changed,
    character_tokenizer,
    configured,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    text_of,
    windows,
    write_texts,
)
from transformers import AutoModelForCausalLM

from probe.config import Config
from probe.errors import ProbeError, UsageError
from probe.perturbations.condition import draw_rng, parse
from probe.perturbations.samplers import Sampler, stretch, unigram, vocabulary
from probe.protocols.branches import TargetRun
from probe.results.scores import Store
from probe.runs.experiment import prepare
from probe.runs.identity import _refuse_other
from probe.runs.plan import costs, planned_batch
from probe.runs.run import Progress, run

FIXED = ("noise", "truncate", "reverse")  # draw nothing
UNSHARED = ("shuffle", "reverse", "shuffle_spans(span=20)")  # nothing common to two boundaries
EVERY = (
    *FIXED,
    "shuffle",
    "shuffle(span=8)",
    "shuffle_spans(span=20)",
    "replace(source='vocabulary')",
    "replace(source='unigram')",
    "replace(source='document')",
    "replace(source='self')",
    "drop(rate=0.3)",
    "[drop(rate=0.5), shuffle(span=4)]",
)
GRID = {"kind": "grid", "distances": [0, 3, 20], "targets": {"count": 4, "end_offset": 2}}
KEY = ["document", "window", "condition", "repeat", "boundary", "position"]


class Plain:
    """What a run should hold, from its windows, its texts and whole forwards alone."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.windows = windows(folder)
        self.model = AutoModelForCausalLM.from_pretrained(config.model.path).eval()
        self.bos = self.record["model"]["bos"]
        self.keeps = config.first_token != "none"
        texts = Path(str(config.data.data_files)).parent
        self.documents = {
            name: self.tokens((texts / name).read_text(encoding="utf-8"))
            for name in self.record["data"]["pool"]
        }

    def tokens(self, text: str) -> NDArray[np.int64]:
        return np.array(character_tokenizer(False)(text)["input_ids"])

    @cached_property
    def room(self) -> int:
        return max(run.boundary for run in self.runs("noise"))

    def runs(self, condition: str) -> tuple[TargetRun, ...]:
        return self.config.plan.runs(condition not in UNSHARED)

    def sampler(self, source: str, document: str, start: int) -> Sampler:
        if source == "vocabulary":
            return vocabulary(range(3, len(character_tokenizer(True))))
        if source == "unigram":
            return unigram(np.bincount(np.concatenate(list(self.documents.values()))))
        if source == "self":
            return stretch([self.documents[document][:start]], room=self.room)
        others = [ids for name, ids in self.documents.items() if name != document]
        return stretch(others, room=self.room)

    def before(self, key: tuple[str, int, str, int], boundary: int) -> NDArray[np.int64]:
        """What stands before the boundary; the boundary counts the window's tokens."""
        document, index, condition, repeat = key
        window = self.windows[document, index]
        ids = np.array(window["token_ids"])
        parsed = parse(condition)
        kept = ids[:1] if self.bos is None else [self.bos]
        far = parsed.apply(
            ids[int(self.keeps and self.bos is None) : boundary],
            rng=draw_rng(self.config.seed, document, index, condition, repeat),
            sources={
                name: self.sampler(name, document, window["start"]) for name in parsed.sources
            },
        )
        without = not self.keeps or (self.config.first_token == "published" and not len(far))
        return np.concatenate([[] if without else kept, far]).astype(np.int64)

    def keys(self) -> Iterator[tuple[str, int, str, int]]:
        """Everything drawn: a condition that draws nothing is scored once."""
        for document, index in self.windows:
            for condition in self.config.conditions:
                for repeat in range(1 if condition in FIXED else self.config.repeats):
                    yield document, index, condition, repeat

    def rows(self) -> pd.DataFrame:
        """All rows that the run should hold, with every measure."""
        found = [self.intact_rows(*window) for window in self.windows]
        found += [self.rows_of(key, run) for key in self.keys() for run in self.runs(key[2])]
        frame = pd.concat(found).sort_values(KEY, ignore_index=True)
        intact = frame[frame.condition == "intact"].set_index([*KEY[:2], "position"])
        paired = intact.loc[list(zip(*(frame[c] for c in intact.index.names), strict=True))]
        logp, other = np.stack(frame.logp), np.stack(paired.logp)
        nll_intact = paired.nll.to_numpy()
        kl = (np.exp(other) * (other - logp)).sum(axis=1)
        return frame.drop(columns="logp").assign(nll_intact=nll_intact, kl=kl)

    def intact_rows(self, document: str, index: int) -> pd.DataFrame:
        window = self.windows[document, index]
        first, stop = self.config.plan.targets
        lead = [self.bos] if self.keeps and self.bos is not None else []
        ids = np.concatenate([lead, window["token_ids"][:stop]]).astype(np.int64)
        frame = self.measured(ids, first + len(lead), window["start"] + first)
        return frame.assign(
            document=document, window=index, condition="intact", repeat=0, boundary=-1, far_start=-1
        )

    def rows_of(self, key: tuple[str, int, str, int], run: TargetRun) -> pd.DataFrame:
        document, index, condition, repeat = key
        window = self.windows[document, index]
        start, boundary, first = window["start"], run.boundary, run.first
        before = self.before(key, boundary)
        if not len(before):
            first = max(first, boundary + 1)  # nothing predicts the first token of all
        ids = np.concatenate([before, window["token_ids"][boundary : run.stop]]).astype(np.int64)
        at = len(before) + first - boundary
        kept = int(self.keeps and self.bos is None)
        far_is_gone = len(before) <= int(self.keeps)
        return self.measured(ids, at, start + first).assign(
            document=document,
            window=index,
            condition=condition,
            repeat=repeat,
            boundary=start + boundary,
            far_start=start + (boundary if far_is_gone else kept),
        )

    def measured(self, ids: NDArray[np.int64], first: int, position: int) -> pd.DataFrame:
        """The targets from *first* on, by one whole forward."""
        logp = plain_logp(self.model, ids)[first - 1 : -1]
        labels = ids[first:]
        return pd.DataFrame(
            {
                "position": position + np.arange(len(labels)),
                "nll": -logp[np.arange(len(labels)), labels],
                "top1": logp.argmax(axis=1) == labels,
                "entropy": -(np.exp(logp) * logp).sum(axis=1),
                "logp": list(logp),
            }
        )


def assert_right(config: Config, folder: Path, within: float = 1e-5) -> None:
    """A run holds every row that it should, once, with the values of whole forwards."""
    found, expected = scores(folder), Plain(config, folder).rows()
    places = found[[*KEY, "far_start"]]
    assert places.equals(expected[list(places)].astype(places.dtypes))
    known = found.boundary >= 0
    assert (found.distance[known] == (found.position - found.boundary)[known]).all()
    assert (found.distance[~known] == -1).all()
    assert not found.duplicated(KEY).any()
    for measure in {"nll", "nll_intact", *config.measures}:
        if measure == "top1":
            assert (found.top1 == expected.top1).all()
        else:
            assert (found[measure] - expected[measure]).abs().max() <= within, measure


@pytest.fixture(scope="module")
def every(base: dict[str, Any]) -> dict[str, Any]:
    """Every condition, two draws, every measure, two windows with older text before them."""
    return changed(
        base,
        data__max_documents=3,
        windows__per_document=2,
        batch=1,
        conditions=EVERY,
        repeats=2,
        measures=["nll", "kl", "top1", "entropy"],
        windows__skip=40,
    )


@pytest.fixture(scope="module")
def whole(every: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of *every*, scored window by window; tests only read it."""
    return score(every, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def small(base: dict[str, Any]) -> dict[str, Any]:
    """Three documents."""
    return changed(base, data__max_documents=3)


# -- what is scored -----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_row(every: dict[str, Any], whole: Path) -> None:
    """Each row is there once, and has the measures of the text that it names."""
    assert_right(configured(every), whole)


@pytest.mark.slow
def test_intact_is_paired(whole: Path) -> None:
    """nll_intact is, to the bit, the intact row of the same document, window and position."""
    found = scores(whole)
    intact = found[found.condition == "intact"].set_index(["document", "window", "position"]).nll
    index = pd.MultiIndex.from_frame(found[intact.index.names])
    assert (intact.loc[index].to_numpy() == found.nll_intact).all()


@pytest.mark.slow
def test_noise_has_no_effect(whole: Path) -> None:
    """A condition that leaves the text alone has a delta of nothing but rounding."""
    found = scores(whole)
    delta = (found.nll - found.nll_intact).groupby(found.condition)
    assert delta.apply(lambda d: d.abs().max())["noise"] < 1e-5
    assert delta.apply(lambda d: d.abs().max()).drop(["noise", "intact"]).min() > 0.1


@pytest.mark.slow
def test_batches_agree(every: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    """Three windows walked together have the losses of one."""
    together = scores(score(every, tmp_path, batch=3))
    alone = scores(whole)
    assert together[[*KEY, "top1"]].equals(alone[[*KEY, "top1"]])
    for measure in ("nll", "nll_intact", "kl", "entropy"):
        assert (together[measure] - alone[measure]).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["sweep", "grid"])
@pytest.mark.parametrize("first_token", ["keep", "none", "published"])
@pytest.mark.parametrize("bos", [True, False])
def test_first_token(
    bos: bool,
    first_token: str,
    protocol: str,
    small: dict[str, Any],
    models: Mapping[bool, Path],
    tmp_path: Path,
) -> None:
    """With a BOS or without, kept or not, in both protocols, rows are those of the plain way."""
    content = changed(small, model__path=str(models[bos]), first_token=first_token, batch=3)
    if protocol == "grid":
        content["protocol"] = GRID
    assert_right(configured(content), score(content, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bloom", "gemma2", "mamba"])
def test_families_without_sdpa(family: str, small: dict[str, Any], tmp_path: Path) -> None:
    """The default attention is no obstacle to families that have eager attention or none."""
    tiny(family).save_pretrained(tmp_path / "model")
    character_tokenizer(True).save_pretrained(tmp_path / "model")
    content = changed(
        small, model__path=str(tmp_path / "model"), conditions=["truncate", "shuffle(span=8)"]
    )
    assert_right(configured(content), score(content, tmp_path), within=5e-5)


@pytest.mark.slow
def test_all_runs(small: dict[str, Any], tmp_path: Path) -> None:
    """What shares nothing between boundaries has the long run only, unless all are asked for."""
    for name, runs in (("some", 1), ("all", 3)):
        found = scores(score(small, tmp_path, name=name, protocol__all_runs=name == "all"))
        boundaries = found.groupby(["condition", "document"]).boundary.nunique()
        assert (boundaries["shuffle"] == runs).all()
        assert (boundaries["truncate"] == 3).all()


@pytest.mark.slow
def test_noise_on_some_windows(base: dict[str, Any], tmp_path: Path) -> None:
    """``noise(windows=3)`` is scored on three windows, of three documents."""
    content = changed(base, windows__per_document=2)
    found = scores(score(content, tmp_path, conditions=["noise(windows=3)", "truncate"]))
    per_condition = found.groupby("condition")[["document", "window"]]
    counts = per_condition.apply(lambda frame: len(frame.drop_duplicates()))
    assert counts.to_dict() == {"intact": 16, "truncate": 16, "noise(windows=3)": 3}
    assert found[found.condition == "noise(windows=3)"].document.nunique() == 3


@pytest.mark.slow
def test_windows_are_kept(whole: Path, texts: Path) -> None:
    """windows.parquet holds the windows' tokens and text, and where each token stands in it."""
    kept = windows(whole)
    assert len(kept) == 6
    for (document, _), window in kept.items():
        start, stop = window["start"], window["start"] + 64
        text = (texts / document).read_text(encoding="utf-8")
        assert window["text"] == text[start:stop]
        ids = character_tokenizer(False)(text)["input_ids"]
        assert window["token_ids"] == ids[start:stop]
        assert window["char_start"] == list(range(64))
        assert window["char_end"] == list(range(1, 65))


@pytest.mark.slow
def test_frequencies_are_kept(base: dict[str, Any], texts: Path, tmp_path: Path) -> None:
    """frequencies.parquet counts the whole documents that a run began with, once and for all."""
    folder = score(base, tmp_path, data__max_documents=3, conditions=["truncate"])
    path = folder / "frequencies.parquet"
    before = path.read_bytes()
    names = json.loads((folder / "run.json").read_text("utf-8"))["data"]["pool"]
    documents = [(texts / name).read_text("utf-8") for name in names]
    tokens = [id for text in documents for id in character_tokenizer(False)(text)["input_ids"]]
    counts = pd.read_parquet(path).set_index("token_id")["count"]
    assert counts.to_dict() == pd.Series(tokens).value_counts().to_dict()
    assert counts.sum() == sum(map(len, documents)) > 3 * 64
    score(base, tmp_path, data__max_documents=4, conditions=["truncate"])
    assert path.read_bytes() == before
    path.unlink()  # a run of an older version has none
    score(base, tmp_path, data__max_documents=4, conditions=["truncate"])
    assert path.read_bytes() == before


def test_token_ids_without_tokenizer(small: dict[str, Any], tmp_path: Path) -> None:
    """Tokenised data needs no tokenizer, and other data says so."""
    tiny("llama").save_pretrained(tmp_path / "model")
    content = changed(small, model__path=str(tmp_path / "model"))
    with pytest.raises(UsageError, match=r"without a usable tokenizer \(.+\); .* data\.ids_column"):
        score(content, tmp_path)
    rng = np.random.default_rng(0)
    lines = [json.dumps({"ids": rng.integers(3, 90, size=80).tolist()}) for _ in range(3)]
    (tmp_path / "ids.jsonl").write_text("\n".join(lines), encoding="utf-8")
    content["data"] = {
        "path": "json",
        "data_files": str(tmp_path / "ids.jsonl"),
        "ids_column": "ids",
    }
    folder = score(content, tmp_path)
    assert {row["text"] for row in windows(folder).values()} == {None}
    assert scores(folder).document.unique().tolist() == ["0", "1", "2"]


# -- what is told -------------------------------------------------------------------------------


@pytest.mark.slow
def test_record(whole: Path, every: dict[str, Any]) -> None:
    """run.json says what was run, on what, with what."""
    record = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    config = configured(every)
    assert record["status"] == "complete"
    assert Config.model_validate(record["config"]) == config
    assert record["model"]["class"] == "LlamaForCausalLM"
    assert record["model"]["bos"] == 0
    assert all(outcome["passed"] for outcome in record["check"])
    documents = {document["id"]: document for document in record["data"]["documents"]}
    lengths = {f"{number}.txt": length for number, length in enumerate(LENGTHS)}
    assert len(documents) == 3
    assert all(document["tokens"] == lengths[name] for name, document in documents.items())
    assert all(document["windows"] == 2 for document in documents.values())
    shared = {name: how["shared"] for name, how in record["plan"]["conditions"].items()}
    assert shared == {name: name not in UNSHARED for name in EVERY}


def test_documents_left_out(base: dict[str, Any], tmp_path: Path) -> None:
    """Documents too short for a window, or empty, are counted and named."""
    folder = score(base, tmp_path, conditions=["truncate"])
    data = json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"]
    assert len(data["documents"]) == len(LENGTHS)
    assert data["left_out"]["too_short"] == {"count": 1, "ids": ["short.txt"]}
    assert data["left_out"]["empty"] == {"count": 1, "ids": ["empty.txt"]}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, "auto"])
def test_plan_tells_the_cost(batch: int | str, base: dict[str, Any], tmp_path: Path) -> None:
    """The plan's tokens and targets are those that were forwarded and scored."""
    content = changed(base, batch=batch)
    experiment = prepare(configured(content))
    counted = costs(experiment, planned_batch(experiment.config), set())
    folder = score(content, tmp_path)
    found = json.loads((folder / "run.json").read_text(encoding="utf-8"))["costs"]
    rows = scores(folder)
    assert counted.tokens == found["tokens"]
    assert counted.windows == 8
    for condition, octaves in counted.targets.items():
        assert sum(octaves.values()) == (rows.condition == condition).sum()
    assert found["targets"] == len(rows)
    assert counted.plain_tokens > counted.tokens


@pytest.mark.slow
def test_progress(base: dict[str, Any], tmp_path: Path) -> None:
    """After every unit: windows, tokens, and the mean delta of the far half of the reach."""
    heard: list[Progress] = []
    folder = run(configured(base, batch=3), tmp_path, listen=heard.append)
    assert [progress.windows for progress in heard] == [3, 6, 8]
    assert {progress.total for progress in heard} == {8}
    rows = scores(folder)
    far = rows[(rows.condition == "truncate") & (rows.distance >= 16)]
    assert heard[-1].far_delta == pytest.approx((far.nll - far.nll_intact).mean(), abs=1e-5)


# -- going on -----------------------------------------------------------------------------------


def times(folder: Path) -> dict[str, int]:
    return {part.name: part.stat().st_mtime_ns for part in folder.glob("scores/*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_missing_part(batch: int, base: dict[str, Any], tmp_path: Path) -> None:
    """A part that is gone comes back with the same bytes; the others are not written again."""
    folder = score(base, tmp_path, batch=batch)
    before, written = parts(folder), times(folder)
    lost = max(before, key=lambda name: len(before[name]))  # a whole batch
    (folder / "scores" / lost).unlink()
    heard: list[Progress] = []
    run(configured(base, batch=batch), tmp_path, listen=heard.append)
    assert parts(folder) == before
    assert {name for name, when in times(folder).items() if when != written[name]} == {lost}
    assert [(progress.windows, progress.total) for progress in heard] == [(batch, batch)]


@pytest.mark.slow
def test_unreadable_part(base: dict[str, Any], tmp_path: Path) -> None:
    """A half-written part is put aside, said, and scored again."""
    folder = score(base, tmp_path)
    before = parts(folder)
    broken = folder / "scores" / min(before)
    broken.write_bytes(before[broken.name][:100])
    said: list[str] = []
    run(configured(base), tmp_path, say=said.append)
    assert parts(folder) == before
    assert said == [
        f"{broken.stem}.unreadable was unreadable and is put aside; its rows are scored again",
        "left out, too short: 1 (short.txt)",
        "left out, empty: 1 (empty.txt)",
        "resuming: 2 of 8 windows remaining",
    ]


@pytest.mark.slow
def test_fewer_documents_than_are_asked_for(base: dict[str, Any], tmp_path: Path) -> None:
    """It is said; all of them, or a sample of them, goes without saying."""
    said: list[str] = []
    run(configured(base, data__max_documents=30), tmp_path / "many", say=said.append)
    assert "8 documents of 30 asked for: no more can be used" in said
    run(configured(base, data__max_documents=7), tmp_path / "few", say=said.append)
    assert sum("asked for" in line for line in said) == 1


@pytest.mark.slow
def test_nothing_missing(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run is not scored again: the weights are not even loaded."""
    folder = score(base, tmp_path)
    record, written = (folder / "run.json").read_bytes(), times(folder)
    monkeypatch.delattr("probe.runs.loaded.load_model")
    assert score(base, tmp_path) == folder
    assert times(folder) == written
    assert (folder / "run.json").read_bytes() == record


@pytest.mark.slow
@pytest.mark.parametrize(
    "grown",
    [
        {"conditions": ["truncate", "replace(source='document')", "reverse", "drop(rate=0.3)"]},
        {"repeats": 3},
        {"data__max_documents": 6},
        {
            "conditions": ["shuffle", "replace(source='document')", "truncate"],
            "repeats": 2,
            "data__max_documents": None,
        },
    ],
    ids=["conditions", "repeats", "max_documents", "all"],
)
def test_growing(grown: dict[str, Any], base: dict[str, Any], tmp_path: Path) -> None:
    """Only what is missing is scored, with the draws that an early scoring would have had."""
    given = ["truncate", "replace(source='document')"]
    small = changed(base, conditions=given, data__max_documents=4, batch=3)
    folder = score(small, tmp_path)
    before, written = parts(folder), times(folder)
    pool = json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"]["pool"]
    old = scores(folder)
    large = changed(small, **grown)
    score(large, tmp_path)
    after = parts(folder)
    assert {name: after[name] for name in before} == before
    assert {name: times(folder)[name] for name in before} == written
    assert len(after) > len(before)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["data"]["pool"] == pool
    assert record["costs"]["targets"] >= len(scores(folder)) > len(old)
    assert_right(configured(large), folder)


@pytest.mark.slow
def test_fewer_conditions(base: dict[str, Any], tmp_path: Path) -> None:
    """Rows that are no longer asked for stay, and nothing is scored."""
    folder = score(base, tmp_path)
    before = parts(folder)
    score(base, tmp_path, conditions=["truncate"])
    assert parts(folder) == before


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that the calls of the tests leave as it is."""
    return score(small, tmp_path_factory.mktemp("finished"))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, ["seed was 0, is 1"]),
        ({"windows__length": 72}, ["windows.length was 64, is 72"]),
        ({"protocol__reach": 31}, ["protocol.reach was 32, is 31"]),
        ({"protocol": GRID}, ["protocol.kind was 'sweep', is 'grid'; protocol"]),
        ({"first_token": "none"}, ["first_token was 'keep', is 'none'"]),
        ({"measures": ["nll", "kl"]}, ["measures was ['nll'], is ['kl', 'nll']"]),
        ({"model__dtype": "bfloat16"}, ["dtype was 'float32', is 'bfloat16'"]),
        ({"data__group_column": "text"}, ["run: data.group_column was None, is 'text'; choose"]),
        ({"seed": 1, "first_token": "none"}, ["seed was 0, is 1; first_token was"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_other_identity(
    changes: dict[str, Any], words: list[str], small: dict[str, Any], finished: Path
) -> None:
    """A folder of another identity is refused with what differs, and left as it was."""
    before = files(finished)
    with pytest.raises(UsageError) as caught:
        score(small, finished.parent, **changes)
    message = str(caught.value)
    assert message.startswith(f"{finished} holds another run: ")
    assert all(word in message for word in words)
    assert files(finished) == before


@pytest.mark.slow
def test_overwritten_weights(base: dict[str, Any], tmp_path: Path) -> None:
    """Other weights under the name of those that a run began with are another model."""
    folder = tmp_path / "model"
    tiny("llama").save_pretrained(folder)
    character_tokenizer(True).save_pretrained(folder)
    score(base, tmp_path, model__path=str(folder), data__max_documents=2)
    tiny("llama", seed=1).save_pretrained(folder)
    with pytest.raises(UsageError, match="holds another run: revision was"):
        score(base, tmp_path, model__path=str(folder), data__max_documents=4)


def test_other_boundaries(small: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    """A version that places the same protocol's runs elsewhere does not add to older rows."""
    path = shutil.copytree(finished, tmp_path / finished.name) / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["identity"]["runs"][0][0] -= 1
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match="holds another run: the protocol, in this version"):
        score(small, tmp_path)


def test_scores_without_a_record(small: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    """Rows that no run.json explains are not added to; nor those of half a run.json."""
    folder = shutil.copytree(finished, tmp_path / finished.name)
    for text, words in ((None, "no run.json"), ("null", "no run.json"), ('{"schema": 1}', "lacks")):
        (folder / "run.json").unlink(missing_ok=True)
        if text is not None:
            (folder / "run.json").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            score(small, tmp_path)
    assert parts(folder) == parts(finished)


def test_a_part_damaged_behind_its_footer(
    small: dict[str, Any], finished: Path, tmp_path: Path
) -> None:
    """A part whose footer is good and whose pages are not is put aside and scored again."""
    folder = shutil.copytree(finished, tmp_path / finished.name)
    part = sorted(folder.glob("scores/*.parquet"))[0]
    content = bytearray(part.read_bytes())
    content[100:400] = bytes(300)
    part.write_bytes(content)
    score(small, tmp_path)
    assert parts(folder) == parts(finished)
    assert part.with_suffix(".unreadable").read_bytes() == content


@pytest.mark.slow
def test_damaged_windows(base: dict[str, Any], tmp_path: Path) -> None:
    """A windows.parquet that cannot be read is put aside, said, and written again."""
    folder = score(base, tmp_path)
    path, before = folder / "windows.parquet", parts(folder)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[40:400] = bytes(360)
    table = pq.read_table(path)
    texts = table.set_column(1, "window", pa.array(["x"] * len(table)))
    lacking = table.set_column(1, "window", pa.nulls(len(table), pa.int32()))
    damaged = [whole[:500], b"", bytes(flipped)]
    for other in (texts, lacking, table.drop_columns("token_ids")):
        pq.write_table(other, tmp_path / "other")
        damaged.append((tmp_path / "other").read_bytes())
    for content in damaged:
        path.write_bytes(content)
        said: list[str] = []
        run(configured(base), tmp_path, say=said.append)
        assert "windows.unreadable was unreadable and is put aside; the file is written" in said[0]
        assert path.read_bytes() == whole
        assert path.with_suffix(".unreadable").read_bytes() == content
        assert parts(folder) == before


@pytest.mark.slow
def test_windows_that_are_not_as_a_run_writes_them(base: dict[str, Any], tmp_path: Path) -> None:
    """They are written again, as a report asks for; those that are stay as they are."""
    folder = score(base, tmp_path)
    path = folder / "windows.parquet"
    whole, before = path.read_bytes(), path.stat().st_mtime_ns
    run(configured(base), tmp_path)
    assert path.stat().st_mtime_ns == before
    table = pq.read_table(path)
    for other in (
        table.drop_columns("text"),
        table.set_column(2, "start", pa.nulls(len(table), pa.int32())),
        pa.concat_tables([table, table.slice(0, 1)]),
        table.take(list(range(len(table)))[::-1]),
    ):
        pq.write_table(other, path)
        run(configured(base), tmp_path)
        assert path.read_bytes() == whole


@pytest.mark.slow
def test_a_document_of_the_record_is_a_line(base: dict[str, Any], tmp_path: Path) -> None:
    """run.json says what it said, whatever stands in the names of documents."""
    store = Store(score(base, tmp_path))
    record = store.read_record()
    assert record is not None
    text = (store.folder / "run.json").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if '"sha256"' in line]
    assert len(lines) == len(record["data"]["documents"])
    record["data"]["documents"][0]["id"] = 'a "quoted"\n name, \\ and \u2028 ü'
    store.write_record(record)
    assert store.read_record() == record
    store.write_record({"data": {"documents": []}})
    assert store.read_record() == {"data": {"documents": []}}


def test_scores_are_a_file(base: dict[str, Any], tmp_path: Path) -> None:
    """Refused before the model is loaded, in the words of the report."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "scores").touch()
    with pytest.raises(ProbeError, match=r"scores' is a file; allowed: a folder of score parts"):
        score(base, tmp_path)


def test_a_draw_without_targets_is_scored_once(base: dict[str, Any], tmp_path: Path) -> None:
    """Truncated text without a first token has no loss at distance 0: no row, and no retry."""
    grid = {"kind": "grid", "distances": [0], "targets": {"count": 1, "end_offset": 4}}
    asked = {"first_token": "none", "protocol": grid, "conditions": ["truncate"]}
    folder = score(base, tmp_path, **asked)
    assert set(scores(folder)["condition"]) == {"intact"}
    before = parts(folder)
    score(base, tmp_path, **asked)
    assert parts(folder) == before


def test_same_identity(small: dict[str, Any], finished: Path) -> None:
    """How a run is batched, and how it is analysed, is no part of what it is."""
    before = parts(finished)
    score(small, finished.parent, analysis={"resamples": 100}, batch=3)
    assert parts(finished) == before


def test_other_model(small: dict[str, Any], models: Mapping[bool, Path], finished: Path) -> None:
    """The model is part of the identity."""
    with pytest.raises(UsageError, match=r"holds another run: model was '.*', is '.*'"):
        score(small, finished.parent, model__path=str(models[False]))


def test_long_paths_show_where_they_differ() -> None:
    """Not the beginning that both have, and no other text without its beginning."""
    home = f"/home/{'very-' * 20}long/models"
    for was, now, words in (
        (f"{home}/tiny", f"{home}/other", "model was '…tiny', is '…other'"),
        ("a", "b", "model was 'a', is 'b'"),
        ("a" * 70, "b", f"model was '{'a' * 58}…, is 'b'"),
        ("a" * 99 + "b", "a" * 99 + "c", f"model was '…{'a' * 30}b', is '…{'a' * 30}c'"),
    ):
        with pytest.raises(UsageError) as caught:
            _refuse_other({"model": was}, {"model": now}, Path("run"))
        assert f"{words}; choose another name" in str(caught.value)


@pytest.fixture(scope="module")
def on_changing_texts(
    base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A configuration with texts of its own, beside its run folder."""
    folder = tmp_path_factory.mktemp("changing")
    content = changed(base, data__data_files=f"{write_texts(folder / 'texts')}/*.txt")
    score(content, folder)
    return content


def swap(text: str, at: int) -> str:
    """Another text of the same length."""
    return f"{text[:at]}z{text[at + 1 :]}"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda path: path.write_text(swap(path.read_text(), 100)), "now holds other tokens"),
        (lambda path: path.write_text(swap(path.read_text(), -1)), "now holds other tokens"),
        (lambda path: path.write_text(path.read_text() + "a"), "now holds other tokens"),
        (lambda path: path.write_text("a"), "no longer gives"),
        (lambda path: path.unlink(), "no longer gives"),
    ],
    ids=["token", "token outside the windows", "longer", "too short", "gone"],
)
def test_changed_data(
    edit: Callable[[Path], Any],
    words: str,
    on_changing_texts: dict[str, Any],
) -> None:
    """Data that changed under its name is refused: draws are taken from all of a document."""
    texts = Path(on_changing_texts["data"]["data_files"]).parent
    folder = texts.parent / "tiny"
    before = files(folder)
    edit(texts / "5.txt")
    with pytest.raises(UsageError, match=rf"'5.txt'.*{words}|{words}.*'5.txt'") as caught:
        score(on_changing_texts, folder.parent, repeats=2)
    assert "\n" not in str(caught.value)
    assert files(folder) == before
    write_texts(texts)


@pytest.mark.slow
def test_fewer_documents(base: dict[str, Any], tmp_path: Path) -> None:
    """A sample may grow, not shrink."""
    score(base, tmp_path, data__max_documents=4)
    with pytest.raises(UsageError, match="max_documents may grow, not shrink"):
        score(base, tmp_path, data__max_documents=3)


@pytest.mark.parametrize(("bos", "allowed"), [(True, 1023), (False, 1024)])
def test_too_many_positions(
    bos: bool,
    allowed: int,
    small: dict[str, Any],
    models: Mapping[bool, Path],
    tmp_path: Path,
) -> None:
    """A window that the model has no positions for is refused; one that just fits is not."""
    (tmp_path / "long.txt").write_text(text_of(1100, 0), encoding="utf-8")
    content = changed(
        small,
        model__path=str(models[bos]),
        data__data_files=str(tmp_path / "long.txt"),
        windows__length=allowed + 1,
        conditions=["truncate"],
    )
    with pytest.raises(UsageError, match=f"has 1024 positions; allowed: up to {allowed}$"):
        score(content, tmp_path)
    assert len(prepare(configured(content, windows__length=allowed)).windows) == 1


def test_no_second_document(small: dict[str, Any], tmp_path: Path) -> None:
    """Text of another document needs another document, older text an older one."""
    for source, words in (("document", "second document"), ("self", "set windows.skip to 40")):
        with pytest.raises(UsageError, match=words):
            score(
                small,
                tmp_path,
                name=source,
                conditions=[f"replace(source='{source}')"],
                data__max_documents=1,
                windows__per_document=None,
            )


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_losses_that_are_no_numbers(small: dict[str, Any], tmp_path: Path) -> None:
    """A model that gives NaN is told, and nothing is stored."""
    model = tiny("llama")
    model.lm_head.weight.data[5, 7] = torch.nan
    model.save_pretrained(tmp_path / "model")
    character_tokenizer(True).save_pretrained(tmp_path / "model")
    with pytest.raises(ProbeError, match="the model's losses are not finite: '") as caught:
        score(small, tmp_path, model__path=str(tmp_path / "model"))
    assert caught.value.exit_code == 1
    assert "window 0, condition 'intact' (dtype float32)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert parts(tmp_path / "tiny") == {}


@pytest.mark.slow
def test_one_loss_that_is_no_number(base: dict[str, Any], tmp_path: Path) -> None:
    """Units before the first that is not finite are kept; of that one nothing is."""
    texts = write_texts(tmp_path / "texts")
    content = changed(base, data__data_files=f"{texts}/*.txt", conditions=["truncate"], batch=2)
    order = list(prepare(configured(content)).documents)
    (texts / order[3]).write_text("z" * 200, encoding="utf-8")
    model = tiny("llama")
    z = character_tokenizer(True).convert_tokens_to_ids("z")
    model.model.embed_tokens.weight.data[z] = torch.nan
    model.save_pretrained(tmp_path / "model")
    character_tokenizer(True).save_pretrained(tmp_path / "model")
    with pytest.raises(ProbeError, match=f"not finite: '{order[3]}'"):
        score(content, tmp_path, model__path=str(tmp_path / "model"))
    assert set(scores(tmp_path / "tiny").document) == set(order[:2])  # one unit
    record = json.loads((tmp_path / "tiny" / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "unfinished"
    assert not list((tmp_path / "tiny").rglob("*.tmp"))


@pytest.mark.slow
def test_disk_full(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a run costs one unit: the same call goes on."""
    whole = parts(score(base, tmp_path / "other"))
    import pyarrow.parquet as pq

    write, calls = pq.ParquetWriter.write_table, iter(range(100))

    def until_full(writer: pq.ParquetWriter, table: Any, **options: Any) -> None:
        if next(calls) == 4:  # windows.parquet, frequencies.parquet and two parts fit
            raise OSError(28, "No space left on device")
        write(writer, table, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", until_full)
        with pytest.raises(
            ProbeError, match=r"no space left for .*everything scored before is kept"
        ):
            score(base, tmp_path)
    folder = tmp_path / "tiny"
    assert len(parts(folder)) == 2
    assert not list(folder.rglob("*.tmp"))
    score(base, tmp_path)
    assert parts(folder) == whole
