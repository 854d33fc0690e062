"""Training data are for the tokenizer that they were made with, and for no other one."""

import copy
import json

import pytest
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
)
from transformers import AutoTokenizer

from probe.analysis.open_run import open_run
from probe.errors import UsageError
from probe.models.model_source import tokenizer_hash
from probe.training.rules import parse
from probe.training.trainer import refuse_other_tokenizer
from probe.training.training_data import write_dataset
from probe.training.weigh import short_context, weigh


@pytest.fixture(scope="module", name="data")
def training_data(base, tmp_path_factory):
    given = {"data__max_documents": 1, "conditions": ["truncate"]}
    folder = score(base, tmp_path_factory.mktemp("run"), **given)
    with open_run(folder, write=False) as run:
        short = short_context(run, distance=4)
        summary = weigh(run, parse("longce"), parse("mean_delta"), short=short)
        write_dataset(run, summary, folder / "data")
    return folder / "data"


@pytest.fixture(name="tokenizer")
def own_tokenizer(models):
    return AutoTokenizer.from_pretrained(models[True])


def test_the_tokenizer_of_the_weights_passes(data, tokenizer):
    """Whoever loads it, and whatever it was used for; padding with a token that it has is none."""
    assert refuse_other_tokenizer(data, tokenizer) is None
    tokenizer("the cat", padding="max_length", max_length=9, truncation=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert refuse_other_tokenizer(str(data), tokenizer) is None


def test_another_tokenizer_is_refused(data, tokenizer, models):
    """In one line with both hashes and names; one with a token more is another one."""
    own = tokenizer_hash(tokenizer)
    for other in (AutoTokenizer.from_pretrained(models[False]), copy.deepcopy(tokenizer)):
        if tokenizer_hash(other) == own:
            other.add_tokens(["zz"])
        with pytest.raises(UsageError) as error:
            refuse_other_tokenizer(data, other)
        line = str(error.value)
        assert f"are of tokenizer {own[:12]} ('tiny')" in line
        assert f"the model's is {tokenizer_hash(other)[:12]} ({other.name_or_path!r})" in line
        assert line.endswith("allowed: weights of a run with the tokenizer of the model")
        assert "\n" not in line


def test_weights_that_name_no_tokenizer_pass_and_say_so(data, tokenizer, tmp_path):
    """Runs of before there was a hash, and those of token ids, have none."""
    facts = json.loads((data / "weights.json").read_text())
    facts["model"]["tokenizer"] = None
    (tmp_path / "weights.json").write_text(json.dumps(facts))
    line = refuse_other_tokenizer(tmp_path, tokenizer)
    assert "names no tokenizer: whether its ids are the model's is unknown" in str(line)


@pytest.mark.parametrize(
    "content", [None, "{", "[]", "{}", '{"model": {}}', '{"model": 1}', "\xff"]
)
def test_a_folder_that_does_not_say_is_refused(content, tokenizer, tmp_path):
    if content is not None:
        (tmp_path / "weights.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="allowed: a folder that probe weigh --to wrote"):
        refuse_other_tokenizer(tmp_path, tokenizer)
