"""Windows in characters: two tokenizers cut alike, and rows are what plain forwards give."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import plain_logp, tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    windows,
    word_tokenizer,
)
from transformers import AutoModelForCausalLM

from probe.analysis.open_run import open_run
from probe.corpus.windows import Document
from probe.errors import ProbeError, UsageError
from probe.findings.compare.comparison import compare
from probe.protocols.base import WindowsConfig
from probe.protocols.branches import TargetRun
from probe.protocols.sweep import SweepProtocol
from probe.results.views import longest_distance
from probe.runs.experiment import prepare
from probe.runs.identity import identity
from probe.runs.stopping import target_of

CHARACTERS = {"unit": "characters", "length": 80, "per_document": 2, "skip": 5}
SWEEP = {"kind": "sweep", "reach": 40, "runs": {1: 1, 4: 3}}


@pytest.fixture(scope="module", name="folders")
def two_runs(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A run of a model of characters, and one of a model of words, on the same windows."""
    folder = tmp_path_factory.mktemp("two")
    tiny("cohere", seed=1).save_pretrained(folder / "words")
    word_tokenizer().save_pretrained(folder / "words")
    base = changed(base, windows=CHARACTERS, protocol=SWEEP, conditions=["truncate"])
    return {
        "characters": score(base, folder, name="a"),
        "words": score(base, folder, name="b", model__path=str(folder / "words")),
    }


def places(folder: Path, texts: Path) -> dict[tuple[str, int], tuple[int, list[int], set[int]]]:
    """By document and window: its first token, where each of its tokens begins, its boundaries."""
    rows, found = scores(folder).query("condition == 'truncate'"), {}
    boundaries = rows.groupby(["document", "window"])["boundary"].unique()
    for key, row in windows(folder).items():
        begin = (texts / key[0]).read_text(encoding="utf-8").index(row["text"])
        starts = [begin + at for at in row["char_start"]]
        found[key] = row["start"], starts, set(boundaries[key] - row["start"])
    return found


@pytest.mark.slow
def test_two_tokenizers_cut_at_the_same_characters(
    folders: Mapping[str, Path], texts: Path
) -> None:
    """Each window has the tokens that begin in it; a boundary is the first at its character."""
    one, two = (places(folders[name], texts) for name in ("characters", "words"))
    assert one.keys() == two.keys()
    assert len(one) > 8
    for key, (start, characters, boundaries) in one.items():
        _, words, own = two[key]
        assert characters == list(range(start, start + CHARACTERS["length"]))
        assert start <= words[0] < start + 6
        assert words[-1] < start + CHARACTERS["length"]
        cut_at = [characters[boundary] for boundary in boundaries]
        assert own == {next(n for n, at in enumerate(words) if at >= cut) for cut in cut_at}


@pytest.mark.slow
def test_rows_are_those_of_plain_forwards(folders: Mapping[str, Path]) -> None:
    """Every target of a run of words is there, with the loss of a plain forward."""
    folder = folders["words"]
    model = AutoModelForCausalLM.from_pretrained(folder.parent / "words").eval()
    rows, known = scores(folder), windows(folder)
    found = 0
    for (document, index, condition, boundary), own in rows.groupby(
        ["document", "window", "condition", "boundary"]
    ):
        window = known[document, index]
        ids = np.array(window["token_ids"])
        if condition == "truncate":
            ids = ids[boundary - window["start"] :]
        stop = own.position.max() - own.position.min() + 1
        places = own.position.to_numpy() - (window["start"] + len(window["token_ids"]) - len(ids))
        assert (own.position.to_numpy() == own.position.min() + np.arange(stop)).all()
        logp = plain_logp(model, np.append(0, ids))
        np.testing.assert_allclose(own.nll, -logp[places, ids[places]], atol=1e-4)
        if condition == "truncate":
            assert (own.distance == own.position - boundary).all()
            found += len(own)
            longest = own.distance.max() == len(ids) - 1
            characters = np.diff(np.append(window["char_start"], len(window["text"])))
            read = characters[boundary - window["start"] :][: len(own)].sum()
            assert longest or read <= SWEEP["reach"] / 4 + 6
    assert found == (rows.condition == "truncate").sum() > 100


@pytest.mark.slow
def test_the_curve_ends_where_few_windows_do(folders: Mapping[str, Path]) -> None:
    """Nine in ten windows have targets in the last bin; grey rows have less far than near text."""
    rows = scores(folders["words"]).query("condition == 'truncate'")
    longest = rows.groupby(["document", "window"])["distance"].max() + 1
    with open_run(folders["words"], write=False) as run:
        assert run.last_edge == np.sort(longest)[len(longest) // 10] < longest.max()
        last = run.curve.iloc[-1]
        assert last["windows"] >= 0.9 * len(longest)
        far = run.connection.execute("SELECT far, distance, grey FROM targets").df()
        assert (far.grey == (far.distance > far.far)).all()


@pytest.mark.slow
def test_a_comparison_ends_where_its_runs_do(folders: Mapping[str, Path]) -> None:
    with open_run(folders["words"]) as run, open_run(folders["words"]) as same:
        rows = compare(run, same).curve.query("unit == 'tokens'")
        assert rows["distance_to"].max() == run.last_edge < longest_distance(run.connection) + 1


def test_draws_belong_to_characters(base: dict[str, Any]) -> None:
    """An old configuration keeps its identity; characters are part of one."""
    plain = identity(prepare(configured(base)), "float32")
    assert "unit" not in plain["windows"]
    new = identity(prepare(configured(base, windows=CHARACTERS, protocol=SWEEP)), "float32")
    assert new["windows"]["unit"] == "characters"
    assert new["runs"][0] == [40, 40, 80]


def test_a_window_without_near_tokens_is_no_window() -> None:
    """A window is left out, and keeps its number, where no token begins before its boundary."""
    plan = SweepProtocol(runs={1: 1}).plan(
        WindowsConfig(unit="characters", length=8, per_document=None)
    )
    starts = np.array([0, 8, 9, 10, 12, 13, 20, 21, 22], dtype=np.int32)
    ids = np.arange(len(starts))
    document = Document("a", ids, "x" * 24, starts, np.ones(len(starts), dtype=np.int32))
    (window,) = plan.windows(document, 0)
    assert (window.index, window.start, len(window.ids)) == (1, 1, 5)
    assert plan.of_window(window, document, 0).runs(True) == (TargetRun(3, 3, 5),)
    with pytest.raises(ProbeError, match="8 characters with a token before its last 4"):
        plan.usable([Document("b", ids[:1], "x" * 9, starts[:1], starts[1:2])], 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows__unit": "words"}, "windows.unit"),
        ({"protocol": {"kind": "grid", "distances": [1]}}, "allowed with protocol sweep"),
        ({"data__ids_column": "ids"}, "allowed without data.ids_column"),
        ({"conditions": ["attend(local(4))"]}, r"allowed without attend\(local\("),
        ({"protocol__reach": 41}, "protocol.reach is 41; allowed: 1 to 40"),
    ],
)
def test_mistakes(base: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    """What cannot be measured in characters is refused in one line."""
    base = changed(base, windows=CHARACTERS, protocol=SWEEP)
    with pytest.raises(UsageError, match=message):
        _ = configured(base, **changes).plan


def test_too_long_for_the_model(base: dict[str, Any]) -> None:
    """Positions are counted in tokens of the longest window; short texts in characters."""
    longer = {"windows__length": 400, "windows__unit": "characters", "protocol__reach": None}
    with pytest.raises(UsageError, match=r"longest window has, in tokens, 400 .* positions"):
        prepare(configured(base, **longer, windows__skip=0, model__path=_short(base)))
    with pytest.raises(ProbeError, match="the longest has 700 characters, a window needs 900"):
        prepare(configured(base, **(longer | {"windows__length": 900})))


def _short(base: Mapping[str, Any]) -> str:
    """The model of a configuration with 128 positions."""
    folder = Path(base["model"]["path"])
    short = folder.parent / "short-model"
    shutil.copytree(folder, short, dirs_exist_ok=True)
    config = json.loads((short / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 128
    (short / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(short)


def test_slow_tokenizer(base: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that does not say which characters a token has is refused."""
    from probe.corpus import sample

    real = sample.to_document

    def without(*args: Any, **how: Any) -> Document:
        found = real(*args, **how)
        return Document(found.id, found.ids, None, found.char_start[:0], found.char_count[:0])

    monkeypatch.setattr(sample, "to_document", without)
    with pytest.raises(UsageError, match="does not say which characters"):
        prepare(configured(base, windows=CHARACTERS, protocol=SWEEP))


def test_a_precision_is_of_distances_in_tokens(
    base: dict[str, Any], folders: Mapping[str, Path]
) -> None:
    """What the windows measure of them is known once they are cut; a shared text has tokens too."""
    record = json.loads((folders["words"] / "run.json").read_text(encoding="utf-8"))
    given = {"windows": CHARACTERS, "protocol": SWEEP, "conditions": ["truncate"]}
    given |= {"model__path": record["config"]["model"]["path"], "precision": {"nats": ".1 @ 32-38"}}
    assert configured(base, **given).plan.reach == 40
    with pytest.raises(
        UsageError, match=r"of distances 32 to 38; allowed: 0 to \d+, where the run"
    ):
        target_of(prepare(configured(base, **given)))
    given |= {"conditions": ["replace(source='document', shared=4)"], "precision": None}
    with pytest.raises(UsageError, match=r"'characters'; allowed without replace\(source='docum"):
        configured(base, **given)
