"""A protocol of one's own is one file: this one. Nothing else of the project knows it.

The file is also what a user names in a configuration (``protocols: [test_new_protocol.py]``), as
another process does here that is killed; in this process its own import has registered it.
"""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from killed_runs import Tries, process_of_tries  # noqa: F401 (a fixture)
from models import plain_logp
from pydantic import Field, PositiveInt
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    base_configuration,
    changed,
    environment,
    model_folders,
    no_network,
    parts,
    score,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM

from probe.analysis.open_run import open_run
from probe.commands.list import COLUMNS
from probe.commands.main import group
from probe.config import check
from probe.corpus.windows import Document, Window
from probe.errors import UsageError
from probe.findings.base import findings
from probe.perturbations.condition import draw_rng
from probe.protocols import registry
from probe.protocols.base import ANY_MODEL, ModelFacts, Plan, Protocol, WindowsConfig
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register
from probe.render.terminal import answers

WINDOWS = 23


@register
class OneDistance(Protocol):
    """Text is cut off at one random distance a window.

    Only this line is listed.
    """

    kind: Literal["one_distance"] = "one_distance"
    longest: Annotated[PositiveInt, Field(description="the longest distance drawn, tokens")]
    targets: Annotated[PositiveInt, Field(description="how many, the last of a window")] = 4

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Text is truncated, where nothing else is asked for."""
        return {"conditions": ["truncate"], **content}

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "OneDistancePlan":
        """What is measured of such windows."""
        most = windows.fixed - self.targets
        if self.longest >= most:
            raise UsageError(f"protocol.longest is {self.longest}; allowed: 1 to {most - 1}")
        return OneDistancePlan(windows, model, self.longest, self.targets)


@dataclass(frozen=True)
class OneDistancePlan(Plan):
    """One boundary a window; of any window, the nearest and the furthest that may be drawn.

    Args:
        longest: The longest distance.
        count: Number of targets.
        distance: That of the window at hand.
    """

    longest: int
    count: int
    distance: int | None = None

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One boundary and the last targets behind it."""
        first = self.length - self.count
        drawn = (self.longest, 1) if self.distance is None else (self.distance,)
        return tuple(TargetRun(first - distance, first, self.length) for distance in drawn)

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan with the distance that is drawn for a window."""
        rng = draw_rng(seed, document.id, window.index, "one_distance", 0)
        return replace(self, distance=int(rng.integers(1, self.longest, endpoint=True)))


@pytest.fixture(scope="module", name="content")
def new_configuration(base: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the protocol, and what it has by default."""
    content = {key: value for key, value in base.items() if key not in ("protocol", "conditions")}
    protocol = {"kind": "one_distance", "longest": 24}
    return changed(content, protocol=protocol, windows__per_document=3, name="new", batch=1)


@pytest.fixture(scope="module", name="folder")
def run_folder(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score(content, tmp_path_factory.mktemp("results"))


def probe(*arguments: object) -> Result:
    """What a command says, in this process."""
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_listed() -> None:
    """With its first line and its keys, behind the built-in ones."""
    text = probe("list").stdout
    listed = text[text.index("Protocols\n") : text.index("Measures\n")]
    assert "  one_distance" in listed
    assert "Text is cut off at one random distance a window." in listed
    assert "Only this line" not in listed
    assert "    longest (required)" in listed
    assert "    targets: 4 " in listed
    assert listed.index("  passages ") < listed.index("  one_distance ")
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_planned(content: dict[str, Any], tmp_path: Path) -> None:
    """Targets, tokens and reach are counted; a mistake in its keys is told as any other."""
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    told = probe("plan", file, "--no-time").stdout
    assert f"{WINDOWS} windows of 64 tokens, reach 28" in told
    for setting, words in {
        "protocol.longest=60": "protocol.longest is 60; allowed: 1 to 59",
        "protocol.longest=x": "protocol.longest: Input should be a valid integer",
        "protocol.reach=3": "protocol.reach: unknown key (value 3)",
        "protocol.kind=two": "'parallel', 'speech', 'span_corruption', 'one_distance'",
        "conditions=[attend(local(4))]": "sinks=1)): allowed with protocol sweep or grid",
    }.items():
        refused = CliRunner().invoke(group, ["plan", str(file), "--set", setting])
        assert refused.exit_code == 2
        assert words in refused.stderr


@pytest.mark.slow
def test_rows_are_those_of_whole_forwards(folder: Path, base: dict[str, Any]) -> None:
    """Each window has one boundary, its own, and the rows of one forward behind it."""
    model = AutoModelForCausalLM.from_pretrained(base["model"]["path"]).eval()
    found = scores(folder).query("condition == 'truncate'")
    drawn = set()
    for (document, number), window in windows(folder).items():
        rows = found[(found.document == document) & (found.window == number)]
        (boundary,) = set(rows.boundary)
        distance = window["start"] + 60 - boundary
        drawn.add(distance)
        ids = [0, *window["token_ids"][60 - distance :]]
        logp = plain_logp(model, np.array(ids))
        expected = [-logp[at - 1, ids[at]] for at in range(len(ids) - 4, len(ids))]
        assert np.abs(rows.nll.to_numpy() - expected).max() <= 2e-5
    assert len(found) == WINDOWS * 4
    assert len(drawn) > 6
    assert (min(drawn), max(drawn)) >= (1, 12)


@pytest.mark.slow
def test_killed_and_resumed(
    content: dict[str, Any], folder: Path, tries: Tries, tmp_path: Path
) -> None:
    """Another process, to which this file is a user's own, is killed; the run goes on here."""
    own = changed(content, protocols=[str(Path(__file__))])
    end = tries(configuration=own, results=tmp_path, after_first=0.1, pause=0.5)
    assert end["status"] == -signal.SIGKILL
    held = parts(tmp_path / "new")
    assert 0 < len(held) < WINDOWS
    assert parts(score(content, tmp_path)) == parts(folder)
    assert parts(tmp_path / "new").items() >= held.items()


@pytest.mark.slow
def test_other_code_is_refused(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two versions of the user's own code do not mix; built-in ones leave no mark."""
    few = changed(content, data__max_documents=1)
    record = json.loads((score(few, tmp_path) / "run.json").read_text(encoding="utf-8"))
    assert list(record["protocols"]) == ["one_distance"]
    monkeypatch.setattr("inspect.getsource", lambda _: "other code")
    with pytest.raises(UsageError, match="scored with other code of protocol 'one_distance'"):
        score(few, tmp_path)
    sweep = {"protocol": {"kind": "sweep"}, "conditions": ["truncate"], "name": "sweep"}
    built_in = changed(few, **sweep)
    record = json.loads((score(built_in, tmp_path) / "run.json").read_text(encoding="utf-8"))
    assert "protocols" not in record


@pytest.mark.slow
def test_reported(folder: Path) -> None:
    """It is answered by a curve, as it says nothing else."""
    with open_run(folder) as run:
        assert run.warnings == ()
        assert run.has_length
        assert run.is_answered_by("curve")
        told = "\n".join(answers(findings(run)))
    assert f"Measured on 8 documents, {WINDOWS} windows and {4 * WINDOWS} targets" in told
    assert "truncate" in told


@pytest.mark.slow
def test_page_and_figure(folder: Path) -> None:
    """Its page and its figure are those of any curve."""
    printed = probe("report", folder, "--output", folder / "page.html").stdout
    assert f"{WINDOWS} windows" in printed
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "one_distance" in page
    assert "<svg" in page
    probe("plot", folder, "--kind", "curve", "--output", folder / "curve.png")
    assert (folder / "curve.png").stat().st_size > 5_000


@pytest.mark.slow
def test_read_where_it_is_not_registered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder makes nobody run the user's code: it is read as a curve, which is said."""
    with open_run(folder) as run:
        known = run.curve
    known_kinds = {kind: one for kind, one in registry._KINDS.items() if kind != "one_distance"}
    monkeypatch.setattr(registry, "_KINDS", known_kinds)
    with open_run(folder) as run:
        (caveat,) = run.warnings
        assert "protocol 'one_distance' is not registered here" in caveat
        assert "read as a curve" in caveat
        assert run.curve.equals(known)
    with pytest.raises(UsageError, match=r"protocol\.kind: is 'one_distance'; allowed: 'sweep'"):
        check(json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"])
