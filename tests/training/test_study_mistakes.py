"""Studies: what is wrong with a configuration, data, a trainer or a folder is told in one line."""

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError
from tiny_study import MEASURED, content

from probe.errors import ProbeError, UsageError
from probe.training import train_arm
from probe.training.rules import REGISTRY
from probe.training.study import Trained, check_study
from probe.training.study_data import chosen, prepare
from probe.training.study_run import train


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tokens": 0}, "tokens: Input should be greater than 0; got 0"),
        ({"token": 5}, "token: unknown key (value 5); did you mean 'tokens'?"),
        ({"model": {}}, "model: allowed: either config (a new model) or path"),
        ({"model": {"config": {}}}, "model_type is missing"),
        ({"model": {"path": "x"}}, "tokenizer: allowed with model.config"),
        ({"tokenizer": None}, "tokenizer is missing: a new model has none"),
        ({"arms": {}}, "arms: Dictionary should have at least 1 item"),
        ({"arms": {"a b": {}}}, "'a b': allowed: names of letters"),
        ({"arms": {"a": {"against": ["b"]}}}, "arms.a.against: there is no other 'b'"),
        ({"arms": {"a": {"shuffled": True}}}, "shuffled: allowed with weights or online"),
        ({"arms": {"a": {"weights": "keyz"}}}, "did you mean 'keys'"),
        ({"arms": {"a": {"weights": "keys"}}}, "arms.a is the first, whose model scores"),
        ({"arms": {"a": {}, "b": {"documents": {"share": 1}}}}, "less than 1; got 1"),
        ({"arms": {"a": {"auxiliary": ["next_segmen"]}}}, "did you mean 'next_segment'"),
        ({"arms": {"a": {"auxiliary": ["next_segment(weight=0)"]}}}, "weight is 0; allowed"),
        ({"arms": {"a": {"auxiliary": ["next_segment(wait=1)"]}}}, "wait"),
        ({"arms": {"a": {"auxiliary": ["next_segment(weight='x')"]}}}, "allowed: numbers"),
        ({"arms": {"a": {}, "b": {"weights": "keys"}}, "scoring": None}, "scoring is missing"),
        ({"trainer": {"max_steps": 3}}, "max_steps follows from other keys"),
        ({"measures": {"m": {"conditions": ["cut"]}}}, "measures.m has 1 mistake(s)"),
        ({"measures": {"m": {"data": {"path": "x"}}}}, "measures.m.data: allowed without"),
        ({"measures": {"m": {"model": None}}}, "measures.m.model is None; allowed: keys"),
        ({"measures": {"m": {"model": {"path": "x"}}}}, "measures.m.model.path: allowed without"),
        ({"measures": {"scoring": MEASURED}}, "'scoring': allowed: names"),
        ({"measures": {"-m": MEASURED}}, "'-m': allowed: names"),
        (
            {"measures": {"m": {**MEASURED, "protocol": {"reach": 40}}}},
            "measures.m: protocol.reach",
        ),
        ({"scoring": MEASURED}, "scoring: protocol.kind is sweep; allowed: longppl"),
        ({"arms": {"start": {}}}, "'start': allowed: names"),
        ({"arms": {"a" * 101: {}}}, "100 at most"),
        ({"arms": {"a": {"online": {"context": 40, "stride": 8}}}}, "together below 48"),
        ({"seeds": [2**32]}, "seeds.0: Input should be less than 4294967296"),
        ({"seeds": [10**30]}, "allowed: whole numbers of 64 bits"),
        ({"learning_rate": float("inf")}, "learning_rate: Input should be a finite number"),
        ({"tokenizer": {"size": 1}}, "tokenizer.size: Input should be greater than or equal to 4"),
        ({"rules": 5}, "rules: Input should be a valid list; got 5"),
        ({"rules": ["/none.py"]}, "rules.0: '/none.py' cannot be read: No such file"),
        ({"trainer": {"gradient_accumulation_steps": 2}}, "is nothing that a study takes"),
        ({"data": {"path": "x", "ids_column": "y"}}, "tokenizer: allowed with texts"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_file(texts, changes, line):
    with pytest.raises(UsageError) as error:
        check_study(content(texts, **changes))
    assert line in str(error.value)


def test_a_study_is_a_mapping():
    for given in (None, 5, [1]):
        with pytest.raises(UsageError, match=r"study is .*; allowed: a mapping of keys to values"):
            check_study(given)


def test_rules_are_files_beside_the_configuration(texts, tmp_path, monkeypatch):
    """They may be named anew later: the arms say which rules they take."""
    monkeypatch.setattr(REGISTRY, "entries", dict(REGISTRY.entries))
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom probe.training.rules import register\n\n\n"
        "@register()\ndef of_the_study(tokens):\n    return np.ones(len(tokens))\n"
    )
    arms = {"plain": {}, "mine": {"weights": "of_the_study"}}
    given = content(texts, rules=["mine.py"], arms=arms)
    assert check_study(given, folder=tmp_path).arms["mine"].weights == "of_the_study"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"length": 4000}, "documents of 3999 tokens or more"),
        ({"model": {"config": {"model_type": "x"}}}, "model.config: Unrecognized"),
        (
            {"model": {"config": {"model_type": "llama", "hidden_sized": 8}}},
            "model.config.hidden_sized: unknown key of 'llama'; did you mean 'hidden_size'",
        ),
        ({"model": {"config": {"model_type": "llama", "hidden_size": "x"}}}, "model.config: Val"),
        ({"trainer": {"nope": 1}}, "trainer: unknown keyword argument 'nope'"),
        (
            {"measures": {"m": {**MEASURED, "windows": {"length": 60}}}},
            "measures.m: windows.length",
        ),
        (
            {
                "scoring": {
                    "protocol": {"kind": "longppl", "context": 12},
                    "windows": {"length": 30},
                }
            },
            "scoring: windows.length is 30, skip 0; allowed: 47 or more",
        ),
        (
            {"arms": {"a": {"auxiliary": ["next_segment(context=40, segment=16)"]}}},
            "needs 72 tokens; allowed: up to 48, the longest training piece",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(texts, tmp_path, changes, line):
    """Nothing is trained, and the name is still free for what is right."""
    with pytest.raises(ProbeError) as error:
        train(check_study(content(texts, **changes)), tmp_path)
    assert line in str(error.value)
    assert not (tmp_path / "study" / "models").exists()
    assert not (tmp_path / "study" / "study.json").exists()


@pytest.mark.slow
def test_values_of_the_trainer_that_fail_are_told(texts, tmp_path):
    for given, words in (({"adam_beta1": 2.0}, "Invalid beta"), ({"optim": "lomo"}, "lomo")):
        study = check_study(content(texts, trainer=given, name=words.split()[-1], seeds=[0]))
        with pytest.raises(UsageError, match=rf"trainer \{{.*{words}"):
            train(study, tmp_path)


@pytest.mark.slow
def test_data_of_a_call_that_was_refused_are_made_anew(texts, tmp_path):
    wrong = {"m": {**MEASURED, "windows": {"length": 60}}}
    with pytest.raises(ProbeError):
        train(check_study(content(texts, measures=wrong)), tmp_path)
    assert pq.read_metadata(tmp_path / "study/held_out.parquet").num_rows == 6
    arms, measures = {"plain": {}}, {"m": {**MEASURED, "protocol": {"reach": 16}}}
    given = content(texts, held_out=8, arms=arms, measures=measures, seeds=[0], tokens=96)
    train(check_study(given), tmp_path)
    assert pq.read_metadata(tmp_path / "study/held_out.parquet").num_rows == 8


@pytest.mark.slow
def test_a_damaged_file_is_told(done, tmp_path):
    study, folder = done
    for name in ("training.parquet", "held_out.parquet", "study.json"):
        results = tmp_path / name
        shutil.copytree(folder.parent, results)
        (results / "study" / name).write_text("[]")
        more = study.model_copy(update={"seeds": [0, 1, 2]})
        with pytest.raises(ProbeError, match=rf"{name} (cannot be read|holds \[\])"):
            train(more, results)


def test_a_word_that_is_a_special_token_is_refused(tmp_path):
    """It would be a BOS inside a text."""
    rows = [{"text": " ".join(["a <s> b c"] * 20)} for _ in range(12)]
    pd.DataFrame(rows).to_parquet(tmp_path / "texts.parquet")
    with pytest.raises(UsageError, match=r"has the word <s>, a special token"):
        prepare(check_study(content(tmp_path / "texts.parquet")), tmp_path / "study")


@pytest.mark.slow
def test_a_share_that_chooses_nothing_is_told(done):
    study, folder = done
    selection = study.arms["half"].documents.model_copy(update={"share": 1e-4})
    with pytest.raises(ProbeError, match=r"documents\.share is 0\.0001"):
        chosen(prepare(study, folder).pieces, selection, None, seed=0)


def test_too_few_documents_are_told(texts, tmp_path):
    with pytest.raises(ProbeError, match="30 documents of 47 tokens or more to hold out and 0"):
        prepare(check_study(content(texts, held_out=31)), tmp_path)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_is_named(done, tmp_path, monkeypatch):
    study, folder = done
    data = prepare(study, folder)
    monkeypatch.setattr(train_arm, "SAVE_SECONDS", 0.0)

    def stop(done: int, _of: int, _loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    material = train_arm.Material(range(len(data.pieces)), {})
    given = {"trained": Trained("plain", 1), "folder": tmp_path, "listen": stop}
    with pytest.raises(KeyboardInterrupt):
        train_arm.train_arm(study, data, material, **given)
    (tmp_path / "checkpoints/checkpoint-4/optimizer.pt").write_text("x")
    with pytest.raises(ProbeError, match=r"checkpoint-4 cannot be read: .*; remove it"):
        train_arm.train_arm(study, data, material, **given)


@pytest.mark.slow
def test_a_full_disk_is_one_line(done, tmp_path, monkeypatch):
    """Safetensors and torch say it in errors of their own."""
    study, folder = done
    data = prepare(study, folder)
    for error in (
        SafetensorError("Error while serializing: I/O error: No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 2 vs 1"),
    ):

        def fail(*_given, error=error):
            raise error

        monkeypatch.setattr(train_arm, "_write", fail)
        with pytest.raises(ProbeError, match=r"cannot write .*; free some space"):
            train_arm.train_arm(
                study,
                data,
                train_arm.Material(range(len(data.pieces)), {}),
                Trained("plain", 1),
                tmp_path,
            )


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_study(texts, tmp_path, monkeypatch):
    """With its step; the last checkpoint is kept."""
    monkeypatch.setattr(train_arm, "SAVE_SECONDS", 0.0)
    study = check_study(content(texts, learning_rate=1e30, seeds=[0]))
    with pytest.raises(ProbeError, match=r"step \d+: the loss is nan; training stops"):
        train(study, tmp_path)
    assert list((tmp_path / "study/models/plain-0/checkpoints").glob("checkpoint-*"))


@pytest.mark.slow
def test_another_study_under_the_same_name_is_refused(done):
    study, folder = done
    other = study.model_copy(update={"tokens": study.tokens * 2})
    with pytest.raises(UsageError, match=r"was begun with tokens 1920; the configuration has 3840"):
        train(other, folder.parent)
    arms = {"plain": study.arms["plain"], "longce": study.arms["plain"]}
    with pytest.raises(UsageError, match=r"was begun with arms\.longce"):
        train(study.model_copy(update={"arms": arms}), folder.parent)


@pytest.mark.slow
def test_an_arm_that_was_left_out_keeps_its_name(done, tmp_path):
    """Its models are there: they are none of another arm that comes later."""
    study, folder = done
    shutil.copytree(folder.parent, tmp_path / "results")
    plain = {"plain": study.arms["plain"]}
    train(study.model_copy(update={"arms": plain}), tmp_path / "results")
    other = study.model_copy(update={"arms": plain | {"longce": study.arms["plain"]}})
    with pytest.raises(UsageError, match=r"was begun with arms\.longce"):
        train(other, tmp_path / "results")


@pytest.mark.slow
def test_a_number_of_many_digits_is_the_same_again(texts, tmp_path):
    given = content(
        texts, learning_rate=0.012345678901234, arms={"plain": {}}, seeds=[0], tokens=96
    )
    for _ in range(2):
        train(check_study(given), tmp_path)


@pytest.mark.slow
def test_a_measure_in_another_dtype_is_not_the_one_that_was_made(done, tmp_path):
    study, folder = done
    shutil.copytree(folder.parent, tmp_path / "results")
    far = {**study.measures["far"], "model": {"dtype": "bfloat16"}}
    other = study.model_copy(update={"measures": {"far": far}})
    with pytest.raises(UsageError, match=r"holds another run: .*dtype was 'float32'"):
        train(other, tmp_path / "results")
