"""Models have the names that people call them by, and checkpoints say how far they were trained."""

from pathlib import Path

import pytest

from probe.models.location import family_of, gguf_name, is_encoder, locate

HASH = "0123456789abcdef0123456789abcdef01234567"
FOLDERS = {
    "llama-ft": "llama-ft",
    "llama-ft/": "llama-ft",
    "llama-ft/checkpoint-500": "llama-ft (checkpoint 500)",
    "llama-ft/checkpoints/step_1000": "llama-ft (step 1000)",
    "llama-ft/output/checkpoint-500/": "llama-ft (checkpoint 500)",
    "gpt/global_step1000": "gpt (step 1000)",
    "gpt/global-step-1000": "gpt (step 1000)",
    "gpt/globalstep1000": "gpt (step 1000)",
    "gpt/iter_0001000": "gpt (iteration 1000)",
    "gpt/epoch=3-step=1000": "gpt (epoch 3, step 1000)",
    "gpt/epoch-3/step_1000/hf": "gpt (epoch 3, step 1000)",
    "gpt/checkpoint-500-merged": "gpt (checkpoint 500, merged)",
    "gpt/checkpoint-best": "gpt (best)",
    "gpt/final": "gpt (final)",
    "gpt/Checkpoint-7": "gpt (checkpoint 7)",
    "gpt/1500": "gpt (1500)",
    "llama-ft/model": "llama-ft",
    "step-by-step": "step-by-step",
    "stepfun-7b": "stepfun-7b",
    "checkpoint-7b": "checkpoint-7b",
    f"hub/models--org--Name-1.5B/snapshots/{HASH}": "Name-1.5B",
    f"hub/models--gpt2/snapshots/{HASH}": "gpt2",
    f"hub/models--org--a--b/snapshots/{HASH}/step_5": "b (step 5)",
    f"mirror/Name/{HASH}": "Name",
}


@pytest.mark.parametrize(("folder", "name"), FOLDERS.items())
def test_folders(folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the folder that says something, however it is written, and seen from within it."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert locate(f"./{folder}").name == locate(str(place)).name == name
    monkeypatch.chdir(place)
    assert locate(".").name == name
    assert locate("./").name == name


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    """What a user links to is called as the link."""
    (tmp_path / HASH).mkdir()
    (tmp_path / HASH / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "base").symlink_to(tmp_path / HASH)
    assert locate(str(tmp_path / "base")).name == "base"


@pytest.mark.parametrize(
    ("revision", "name"),
    {
        None: "pythia-70m",
        "main": "pythia-70m",
        HASH: "pythia-70m",
        "0123abc": "pythia-70m",
        "step3000": "pythia-70m (step 3000)",
        "stage1-step5000-tokens21B": "pythia-70m (stage 1, step 5000, tokens21B)",
        "v2.0": "pythia-70m (v2.0)",
        "refs/pr/1": "pythia-70m (refs/pr/1)",
    }.items(),
)
def test_revisions(revision: str | None, name: str) -> None:
    """A branch or a tag of the hub is said, a commit and the default branch are not."""
    assert locate("EleutherAI/pythia-70m", revision).name == name


@pytest.mark.parametrize(
    ("file", "name"),
    {
        "SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct (4-bit weights dequantised)",
        "Qwen3-8B-UD-Q4_K_XL.gguf": "Qwen3-8B (4-bit weights dequantised)",
        "Name.i1-IQ3_XS.gguf": "Name (3-bit weights dequantised)",
        "Name-Q8_0-00001-of-00002.gguf": "Name (8-bit weights dequantised)",
        "Name-7B-BF16.gguf": "Name-7B",
        "Name.gguf": "Name",
        "my-ft/unsloth.Q4_K_M.gguf": "my-ft (4-bit weights dequantised)",
        "my-ft/gguf/ggml-model-f16.gguf": "my-ft",
        "my-ft/checkpoint-500/model.gguf": "my-ft (checkpoint 500)",
        f"models--org--Name-GGUF/snapshots/{HASH}/Name-Q4_0.gguf": (
            "Name (4-bit weights dequantised)"
        ),
    }.items(),
)
def test_gguf_files(file: str, name: str) -> None:
    """The file's name without its quantisation, the folder's where the file's says nothing."""
    assert gguf_name(Path("/models") / file) == name


@pytest.mark.parametrize(
    ("written", "family", "encodes"),
    [
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "masked", True),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "encoder", True),
        ({"architectures": ["ModernBertModel"], "model_type": "modernbert"}, "encoder", True),
        ({"architectures": ["MPNetModel"], "model_type": "mpnet"}, "encoder", True),
        (
            {"architectures": ["RobertaForSequenceClassification"], "model_type": "roberta"},
            "encoder",
            True,
        ),
        (
            {"architectures": ["BertLMHeadModel"], "model_type": "bert", "is_decoder": True},
            "causal",
            False,
        ),
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, "causal", True),
        ({"architectures": ["LlamaModel"], "model_type": "llama"}, "causal", False),
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "causal", False),
        ({"model_type": "bert"}, "causal", True),
        (
            {"architectures": ["BartModel"], "is_encoder_decoder": True, "model_type": "bart"},
            "seq2seq",
            False,
        ),
        ({}, "causal", False),
    ],
)
def test_families(written: dict[str, object], family: str, encodes: bool) -> None:
    """What config.json says; of an encoder with any head the encoder can be taken."""
    assert family_of(written) == family
    assert is_encoder(written) is encodes
