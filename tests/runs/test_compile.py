"""A run whose model torch compiles: the rows of a plain run, whatever else is put on the model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.errors import UsageError
from probe.runs.run import run

PATTERNS = ("attend(local(w=8, sinks=1))", "attend(heads(zero, layers=[1], heads=[0]))")
CHANGES = {
    "protocol": {"kind": "sweep", "reach": 32},
    "conditions": ["truncate", "shuffle", *PATTERNS],
    "measures": ["nll", "kl"],
    "windows__length": 192,
}


def outcome(folder: Path) -> dict[str, Any]:
    """What run.json says of the compiled body."""
    checked = json.loads((folder / "run.json").read_text())["check"]
    found: dict[str, Any] = next(one for one in checked if one["technique"] == "compile")
    return found


@pytest.mark.slow
def test_same_rows(
    base: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are those of a plain run, of patterns to the bit, and a plain call may finish a run."""
    real, calls = torch.compile, 0

    def compiled(forward: Callable[..., Any], **given: Any) -> Callable[..., Any]:
        body, graph = forward.__self__, real(forward, backend="eager", **given)  # type: ignore[attr-defined]

        def checked(**given: Any) -> Any:
            nonlocal calls
            calls += 1
            assert body.config._attn_implementation == "sdpa"  # a pattern has a name of its own
            for layer in body.layers:
                assert not layer._forward_hooks
                assert "forward" not in vars(layer)
            return graph(**given)

        return checked

    plain = scores(score(base, tmp_path / "plain", **CHANGES))
    with monkeypatch.context() as patch:
        patch.setattr("torch.compile", compiled)
        patch.setattr("probe.engine.compiled.FASTER", np.inf)
        said: list[str] = []
        part = configured(base, **CHANGES, model__compile=True, data__max_documents=2)
        folder = run(part, tmp_path / "compiled", say=said.append)
        tried = calls
    found = outcome(folder)
    assert found["passed"]
    assert found["ratios"].keys() == set(found["used"]) != set()
    assert found["seconds"] > 0
    assert any(line.startswith("compile: exact") for line in said)
    some = scores(folder)
    assert 0 < len(some) < len(plain)
    score(base, tmp_path / "compiled", **CHANGES)
    both = scores(folder)
    keys = ["document", "window", "condition", "repeat", "boundary", "position"]
    assert both[keys].equals(plain[keys])
    np.testing.assert_allclose(both["nll"], plain["nll"], atol=2e-5)
    rows = plain["condition"].isin(PATTERNS)
    assert rows.any()
    np.testing.assert_array_equal(both["nll"][rows], plain["nll"][rows])
    assert calls == tried


@pytest.mark.slow
def test_no_compiler(
    base: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler a run is plain, and says why; the next one says nothing of it."""

    def missing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch.compile", missing)
    said: list[str] = []
    folder = run(configured(base, model__compile=True), tmp_path, say=said.append)
    assert "compile: switched off, torch raised RuntimeError: no C++ compiler" in said
    assert not outcome(folder)["passed"]


@pytest.mark.parametrize(
    "other", [{"served": "http://localhost:8000", "api": "vllm"}, {"device_map": "auto"}]
)
def test_refused(base: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """A model elsewhere, or one whose layers are moved about, is not compiled."""
    changes = {f"model__{name}": value for name, value in other.items()}
    line = f"model.compile with model.{next(iter(other))}.*allowed: one of the two"
    with pytest.raises(UsageError, match=line):
        configured(base, **changes, model__compile=True)
