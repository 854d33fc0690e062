"""A run of protocol `passages`, from the data set to its rows, against whole forwards."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from passage_rows import CONDITIONS, NAMES, make_row, score_passages
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    scores,
    text_folder,
    windows,
)
from transformers import AutoModelForCausalLM

from probe.corpus.records import Record
from probe.corpus.spans import TextSpan, pieces, read_spans, to_tokens
from probe.corpus.tokenise import Reader, to_document
from probe.errors import UsageError
from probe.perturbations.condition import draw_rng, parse


@pytest.fixture(scope="module", name="rows")
def data_rows():
    return [make_row(number) for number in range(8)]


@pytest.fixture(scope="module", name="folder")
def run_folder(base, rows, tmp_path_factory):
    without = [{"text": "no answer here", "spans": [{"name": "first", "start": 0, "end": 5}]}]
    return score_passages(
        base,
        tmp_path_factory.mktemp("passages"),
        [*rows, *without],
        name="passages",
        conditions=CONDITIONS,
    )


def by_hand(text, ids, spans, number, document, pool):
    """The ids of a document under a condition that perturbs passage *number*."""
    _, start, stop = spans[number]
    rng = draw_rng(0, document, 0, text, 0)
    before, far, behind = ids[:start], ids[start:stop], ids[stop:]
    if text == "delete":
        return before + behind
    if text == "shuffle":
        return before + parse(text).apply(far, rng=rng) + behind
    if text.startswith("replace"):
        others = [one[spans[number][0]] for name, one in pool.items() if name != document]
        chosen = others[int(rng.integers(len(others)))]
        return before + np.resize(chosen, len(far)).tolist() + behind
    first, last = spans[0].start, spans[-1].stop
    if text == "move":
        return before + ids[stop:last] + far + ids[last:]
    return ids[:first] + far + ids[first:start] + behind


@pytest.mark.slow
def test_rows_are_those_of_whole_forwards(folder, base, rows):
    """Each passage is perturbed alone, the answer's losses are those of one whole forward."""
    model = AutoModelForCausalLM.from_pretrained(base["model"]["path"]).eval()
    record = json.loads((folder / "run.json").read_text())
    spans = {
        one["id"]: {name: (start, stop) for name, start, stop in one["spans"]}
        for one in record["data"]["documents"]
    }
    found = scores(folder)
    found = found[found["boundary"] >= 0]
    held = windows(folder)
    pool = {
        document: {
            name: held[document, 0]["token_ids"][start:stop]
            for name, (start, stop) in spans[document].items()
        }
        for document in record["data"]["pool"]
    }
    checked = 0
    for (document, _), window in held.items():
        places = [TextSpan(name, *spans[document][name]) for name in NAMES]
        begin, end = spans[document]["answer"]
        ids = window["token_ids"]
        for text in CONDITIONS:
            own = found[(found["document"] == document) & (found["condition"] == text)]
            for number in range(len(NAMES)):
                if (text, number) in (("move", 3), ("move(to='first')", 0)):
                    continue
                whole = by_hand(text, ids, places, number, document, pool)
                count = end - begin
                sequence = torch.tensor([[record["model"]["bos"], *whole]])
                with torch.inference_mode():
                    logp = torch.log_softmax(model(sequence).logits[0].double(), dim=-1)
                rows_at = range(len(whole) - count, len(whole))
                expected = [-float(logp[at, whole[at]]) for at in rows_at]
                far = own["far_start"], own["boundary"]
                region = (places[number].start, places[number].stop)
                if text == "move":
                    region = (places[number].start, places[-1].stop)
                elif text.startswith("move"):
                    region = (places[0].start, places[number].stop)
                mine = own[(far[0] == region[0]) & (far[1] == region[1])]
                np.testing.assert_allclose(mine["nll"], expected, atol=2e-5)
                checked += 1
        assert len(found[found["document"] == document]) == (5 * 4 - 2) * (end - begin)
    assert checked == 8 * 18


@pytest.mark.slow
def test_documents_without_an_answer_are_left_out(folder):
    record = json.loads((folder / "run.json").read_text())
    assert record["data"]["left_out"]["no_window"]["count"] == 1


def test_moved_text_and_passages_belong_to_the_protocol(base):
    """Any other protocol has no passage to move or to take."""
    for text in ("move", "replace(source='passage')"):
        with pytest.raises(UsageError, match="allowed with protocol passages alone"):
            configured(base, conditions=[text])
    with pytest.raises(UsageError, match="go together"):
        configured(base, data__prompt_columns=["a"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "allowed: a list of {name, start, end}"),
        ([{"name": "a", "start": 0}], "whole numbers"),
        ([{"name": "a", "start": 3, "end": 3}], "start before end"),
        ([{"name": "a", "start": 0, "end": 99}], "allowed: 0 to 10"),
        ([{"name": "a", "start": 0, "end": 4}, {"name": "b", "start": 3, "end": 5}], "overlap"),
        ([{"name": "a", "start": 0, "end": 4}, {"name": "a", "start": 4, "end": 5}], "called 'a'"),
    ],
)
def test_spans_that_are_none(value, message):
    with pytest.raises(UsageError) as error:
        read_spans(value, "0123456789", column="spans", document="d")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_token_belongs_to_what_holds_its_end():
    """A token that begins with the space before a passage is one of the passage's."""
    ends = np.array([3, 6, 9, 10])
    starts = np.array([0, 3, 6, 9])
    spans = [TextSpan("a", 4, 6), TextSpan("none", 6, 7), TextSpan("b", 7, 10)]
    assert to_tokens(spans, starts, ends) == (("a", 1, 2), ("b", 2, 4))


class Chat:
    """A tokenizer with a template, of one token a character; what is special is one token."""

    chat_template = "made up"
    is_fast = True

    def apply_chat_template(self, messages, *, add_generation_prompt, tokenize):
        return f"<u>{messages[0]['content']}</u><a>"

    def __call__(self, text, *, split_special_tokens, **_):
        ids, spans, at = [], [], 0
        while at < len(text):
            special = [tag for tag in ("<u>", "</u>", "<a>") if text.startswith(tag, at)]
            size = len(special[0]) if special and not split_special_tokens else 1
            ids.append(1 if size > 1 else ord(text[at]))
            spans.append((at, at + size))
            at += size
        return {"input_ids": ids, "offset_mapping": spans}


def test_a_prompt_of_columns():
    """Columns and their texts are passages; the template's own tokens alone are special."""
    prompt = {"context": ["one <u>", "two"], "question": "who", "reply": "me"}
    document = to_document(Record("d", prompt=prompt), Reader(Chat(), 200))
    assert document.text == "<u>one <u>\n\ntwo\n\nwho</u><a>me"
    texts = {
        name: "".join(map(chr, document.ids[start:stop])) for name, start, stop in document.spans
    }
    assert texts == {"context[0]": "one <u>", "context[1]": "two", "question": "who", "reply": "me"}
    assert (document.ids == 1).sum() == 3
    for before, after in pairwise(document.spans):
        assert before.stop <= after.start
    np.testing.assert_array_equal(document.char_start[1:], document.char_end[:-1])


@pytest.mark.parametrize("value", [None, "", [], ["a", ""], 3])
def test_a_prompt_without_text(value):
    with pytest.raises(UsageError, match="allowed: a text or a list of texts"):
        pieces({"context": value, "reply": "x"}, "reply", tokenizer=Chat(), document="d")


def test_one_document_has_no_other_to_take_a_passage_from(base, rows, tmp_path):
    with pytest.raises(UsageError, match="needs a second document with a passage called"):
        score_passages(base, tmp_path, rows[:1], conditions=["replace(source='passage')"])
