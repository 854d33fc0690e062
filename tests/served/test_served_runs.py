"""Runs of a model behind a server: the rows of the model itself, whatever the server does."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import probe
from served_model import Answer, ServedModel, away_until
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.errors import ProbeError, UsageError
from probe.runs.run import run
from probe.runs.served import Served
from probe.served.client import KEY, Client

KINDS: dict[str, dict[str, Any]] = {
    "sweep": {"batch": 1},
    "grid": {
        "protocol": {
            "kind": "grid",
            "distances": [4, 16, 30],
            "targets": {"count": 4, "end_offset": 0},
        },
        "conditions": ["truncate", "shuffle"],
    },
    "longppl": {
        "protocol": {"kind": "longppl", "context": 24, "stride": 8},
        "conditions": ["truncate"],
    },
    "suffix": {
        "protocol": {"kind": "suffix", "prefixes": [0, 24, 48], "tokens": 16, "candidates": 3},
        "windows": {"per_document": 1},
        "conditions": None,
    },
}
WAYS = ["targets", "rows", "completions", "sglang"]


@pytest.fixture(scope="module", name="parts_of_it")
def model_and_tokenizer(models: Mapping[bool, Path]) -> tuple[Any, Any]:
    folder = models[True]
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def content_of(base: dict[str, Any], kind: str) -> dict[str, Any]:
    changes = {key: value for key, value in KINDS[kind].items() if value is not None}
    dropped = [key for key, value in KINDS[kind].items() if value is None or key == "windows"]
    return changed({k: v for k, v in base.items() if k not in dropped}, **changes)


def served(base: dict[str, Any], url: str, api: str = "vllm", **model: Any) -> dict[str, Any]:
    return changed(base, model={"path": base["model"]["path"], "served": url, "api": api, **model})


@pytest.fixture(scope="module")
def own(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The rows of the model here, by kind of protocol."""
    root = tmp_path_factory.mktemp("own")
    return {kind: scores(score(content_of(base, kind), root / kind)) for kind in KINDS}


def assert_same_rows(folder: Path, wanted: Any) -> None:
    found = scores(folder)
    keys = [name for name in wanted if not name.startswith("nll")]
    assert found[keys].equals(wanted[keys])
    for name in ("nll", "nll_intact"):
        assert np.abs(found[name] - wanted[name]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_those_of_the_model(
    kind: str, way: str, base: Any, own: Any, parts_of_it: Any, tmp_path: Path
) -> None:
    api = "sglang" if way == "sglang" else "vllm"
    with ServedModel(*parts_of_it, way=way) as server:
        folder = score(served(content_of(base, kind), server.url, api), tmp_path)
    assert_same_rows(folder, own[kind])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["model"]["dtype"]) == ("complete", "served")
    assert record["identity"]["served"] == api
    checked = {one["technique"]: one["passed"] for one in record["check"]}
    reuses = way in ("targets", "sglang")
    assert checked == {"next token": True} | ({"prefix reuse": True} if reuses else {})
    assert record["costs"]["tokens"] > 0


@pytest.mark.slow
def test_report_and_plan(base: Any, parts_of_it: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with ServedModel(*parts_of_it) as server:
        content = served(base, server.url)
        Path("tiny.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        plan = probe("plan", "tiny.yaml")
        assert plan.exit_code == 0
        assert server.requests == []
        done = probe("run", "tiny.yaml")
    assert done.exit_code == 0, done.stderr
    assert "--set" not in done.stderr
    report = probe("report", "results/tiny")
    assert report.exit_code == 0
    assert "served" in report.stdout + Path("results/tiny/report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measures": ["nll", "kl"]}, "measures: kl of a served model; allowed: nll"),
        (
            {"conditions": ["attend(local(8))"]},
            r"'attend\(local\(w=8, sinks=1\)\)' takes the inside",
        ),
        ({"conditions": ["hide"]}, "'hide' takes the inside of a model"),
    ],
)
def test_what_a_server_cannot_show(
    changes: dict[str, Any], words: str, base: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        score(served(base, "http://127.0.0.1:1"), tmp_path, **changes)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"served": "http://a"}, "model.api None; allowed: both, or none"),
        ({"api": "vllm"}, "model.served is None"),
        ({"served": "a:80", "api": "vllm"}, "allowed: http://host:port"),
        ({"served": "", "api": "vllm"}, "allowed: http://host:port"),
        ({"served": "http://a:port", "api": "vllm"}, "allowed: http://host:port"),
        ({"served": "http://[::1", "api": "vllm"}, "allowed: http://host:port"),
        ({"served": "http://me:pw@a", "api": "vllm"}, "holds more than an address"),
        ({"served": "http://a", "api": "vllm", "adapter": "b"}, "model.adapter with model.served"),
        ({"served": "http://a", "api": "vllm", "concurrency": 5000}, "model.concurrency"),
        ({"served": "http://a", "api": "tgi"}, "model.api"),
    ],
)
def test_configuration(model: dict[str, Any], words: str, base: Any) -> None:
    with pytest.raises(UsageError, match=words):
        configured(base, model={"path": base["model"]["path"], **model})


def shifted(found: np.ndarray) -> np.ndarray:
    """Rows of the tokens before: all are numbers still."""
    return np.concatenate([found[:1], np.roll(found[1:], 1)])


# -- a server with faults ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "api", "way", "words"),
    [
        (shifted, "vllm", "targets", "Rows are shifted"),
        (shifted, "vllm", "rows", "Rows are shifted"),
        (shifted, "sglang", "", "Rows are shifted"),
        (lambda found: np.maximum(found, -np.inf) * 0 - 9999, "vllm", "rows", "not finite"),
        (lambda found: found * np.nan, "vllm", "rows", "not finite"),
        (lambda found: found * np.nan, "sglang", "", "not finite"),
        (lambda found: found + 20, "vllm", "targets", r"does it return logits\?"),
        (lambda found: found[:-1], "vllm", "rows", "gives .* rows of"),
        (lambda found: found[:-1], "vllm", "targets", "gives rows of shape"),
        (lambda found: found[:-1], "sglang", "", "gives .* rows of"),
    ],
)
def test_wrong_rows_are_refused(
    spoil: Any, api: str, way: str, words: str, base: Any, parts_of_it: Any, tmp_path: Path
) -> None:
    with (
        ServedModel(*parts_of_it, way=way, spoil=spoil) as server,
        pytest.raises(ProbeError, match=words),
    ):
        score(served(base, server.url, api), tmp_path)
    assert not list(tmp_path.rglob("*.parquet.tmp"))
    assert not list(tmp_path.glob("tiny/scores/*"))


@pytest.mark.slow
def test_reuse_that_changes_losses_is_switched_off(
    base: Any, own: Any, parts_of_it: Any, tmp_path: Path
) -> None:
    """A cache that leaves rows unwritten is found out before anything is scored."""
    with ServedModel(*parts_of_it) as server:
        true = server._vllm

        def dirty(content: Any) -> Any:
            asked = content["sampling_params"]
            if asked.get("skip_reading_prefix_cache", True):
                return true(content)
            kept, server.spoil = server.spoil, lambda found: found - 1
            try:
                return true(content)
            finally:
                server.spoil = kept

        server._vllm = dirty  # type: ignore[method-assign]
        said: list[str] = []
        config = configured(served(content_of(base, "grid"), server.url))
        folder = run(config, tmp_path, say=said.append)
    assert "prefix reuse: switched off, with it losses differ by up to 1 nats" in said
    assert_same_rows(folder, own["grid"])


@pytest.mark.slow
def test_a_server_that_comes_and_goes(
    base: Any, own: Any, parts_of_it: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that pass cost a pause; one that stays ends the run, and nothing is lost."""
    monkeypatch.setattr("probe.served.client.PAUSES", (0.01,))

    def now_and_then(number: int, _: str) -> None:
        if number % 3 == 2:
            raise Answer(500, {"error": {"message": "out of luck"}})

    with ServedModel(*parts_of_it, fault=now_and_then) as server:
        folder = score(served(content_of(base, "grid"), server.url), tmp_path / "a")
    assert_same_rows(folder, own["grid"])

    def gone_for_good(number: int, _: str) -> None:
        if number > 60:
            raise Answer(503, {"error": "restarting"})

    content = served(content_of(base, "grid"), "http://127.0.0.1:1")
    monkeypatch.setattr("probe.runs.served.WINDOWS", 1)
    with ServedModel(*parts_of_it, fault=gone_for_good) as server:
        content["model"]["served"] = server.url
        with pytest.raises(
            ProbeError, match=r"gave no answer for 0\.2 s, the last time: 503: rest"
        ):
            run(
                configured(content),
                tmp_path / "b",
                workers=Served(Client(server.url, patience=0.2)),
            )
    kept = scores(tmp_path / "b" / "tiny")
    assert 0 < len(kept) < len(own["grid"])
    with ServedModel(*parts_of_it) as server:  # another port: an address is no identity
        content["model"]["served"] = server.url
        folder = run(configured(content), tmp_path / "b")
    assert_same_rows(folder, own["grid"])


@pytest.mark.slow
def test_it_restarts_in_the_middle(
    base: Any, own: Any, parts_of_it: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.served.client.PAUSES", (0.02,))
    moment = [0.0]

    def restart(number: int, route: str) -> None:
        if number == 40:
            moment[0] = time.monotonic() + 0.3
        away_until(moment[0])(number, route)

    with ServedModel(*parts_of_it, fault=restart) as server:
        folder = score(served(content_of(base, "grid"), server.url), tmp_path)
    assert_same_rows(folder, own["grid"])


@pytest.mark.slow
def test_another_model_in_the_middle(
    base: Any, own: Any, parts_of_it: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server answers that was restarted with other weights is not kept."""
    monkeypatch.setattr("probe.runs.served.WINDOWS", 1)

    def swap(number: int, _: str) -> None:
        if number == 60:
            server.name = "another"

    content = served(content_of(base, "grid"), "http://127.0.0.1:1")
    with ServedModel(*parts_of_it, fault=swap) as server:
        content["model"]["served"], name = server.url, server.name
        with pytest.raises(ProbeError, match=rf"holds 'another' now, and held '{name}' when it"):
            score(content, tmp_path)
        assert 0 < len(scores(tmp_path / "tiny")) < len(own["grid"])
        server.name, server.fault = name, lambda *_: None
        assert_same_rows(score(content, tmp_path), own["grid"])


def test_nobody_there(base: Any, tmp_path: Path) -> None:
    config = configured(served(base, "http://127.0.0.1:1"))
    with pytest.raises(ProbeError, match=r"http://127.0.0.1:1/v1/models gave no answer for 0.1 s"):
        run(config, tmp_path, workers=Served(Client("http://127.0.0.1:1", patience=0.1)))


@pytest.mark.slow
def test_another_tokenizer(
    base: Any, parts_of_it: Any, models: Mapping[bool, Path], tmp_path: Path
) -> None:
    """Other ids of a text, or another token in front, and windows that are too long."""
    model, tokenizer = parts_of_it
    without = AutoTokenizer.from_pretrained(models[False])
    with (
        ServedModel(model, without) as server,
        pytest.raises(UsageError, match="makes other tokens of a text than"),
    ):
        score(served(base, server.url), tmp_path)
    with (
        ServedModel(model, tokenizer, longest=65) as server,
        pytest.raises(UsageError, match=r"prompts of up to 64 tokens; windows have 65 with"),
    ):
        score(served(base, server.url), tmp_path / "long")


@pytest.mark.slow
def test_requests(
    base: Any, parts_of_it: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many at once as asked for; the key goes to the server and into no file."""
    monkeypatch.setenv(KEY, " a secret\n")
    with ServedModel(*parts_of_it, fault=lambda *_: time.sleep(0.01)) as server:
        folder = score(served(content_of(base, "grid"), server.url, concurrency=3), tmp_path)
    assert 2 <= server.most_at_once <= 3
    assert server.keys == {"Bearer a secret"}
    for path in folder.rglob("*"):
        assert path.is_dir() or b"a secret" not in path.read_bytes()
    monkeypatch.setenv(KEY, "a\nsecret")
    with pytest.raises(UsageError, match=rf"^{KEY} holds what no key holds") as caught:
        Client("http://127.0.0.1:1")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_noise_is_another_request(base: Any, parts_of_it: Any, tmp_path: Path) -> None:
    """The same text again, and not out of the cache: how far the server repeats itself."""
    with ServedModel(*parts_of_it) as server:
        content = served(content_of(base, "grid"), server.url)
        content["conditions"] = ["noise", "truncate"]
        score(content, tmp_path)
        sent = [json.dumps(one["token_ids"]) for at, one in server.requests if "inference" in at]
        skipped = [
            one["sampling_params"]["skip_reading_prefix_cache"]
            for at, one in server.requests
            if "inference" in at
        ]
    assert len(sent) > len(set(sent)) >= len(sent) // 2
    assert {True, False} == set(skipped)


@pytest.mark.slow
def test_another_model_behind_the_address(base: Any, parts_of_it: Any, tmp_path: Path) -> None:
    content = served(content_of(base, "grid"), "http://127.0.0.1:1")
    for name, conditions in [("one", ["truncate"]), ("two", ["truncate", "shuffle"])]:
        with ServedModel(*parts_of_it, name=name) as server:
            content["model"]["served"] = server.url
            config = configured(content, conditions=conditions)
            if name == "one":
                run(config, tmp_path)
                continue
            with pytest.raises(UsageError, match=r"was scored on 'one', and .* holds 'two'"):
                run(config, tmp_path)


@pytest.mark.parametrize("answer", ["[]", "{}", '{"choices": 3}', '{"prompt_logprobs": {}}', "x"])
def test_answers_that_are_none(answer: str, base: Any, parts_of_it: Any, tmp_path: Path) -> None:
    """One line, whatever comes back."""

    def nonsense(_: int, route: str) -> None:
        if route in ("/inference/v1/generate", "/v1/completions", "/generate"):
            raise Answer(200, answer)

    for api in ("vllm", "sglang"):
        with (
            ServedModel(*parts_of_it, fault=nonsense) as server,
            pytest.raises(ProbeError, match=r"^http://") as caught,
        ):
            score(served(base, server.url, api), tmp_path / api)
        assert "\n" not in str(caught.value)
