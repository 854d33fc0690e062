"""A condition tried by hand: what comes back, what is marked, and attention that is limited."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import tiny
from tiny_run import character_tokenizer

import probe
from probe.attention.apply import apply_pattern
from probe.errors import UsageError
from probe.perturbations.condition import parse

TEXT = "one two three four five six seven eight"


def test_far_is_perturbed_and_near_is_not():
    """The draw is that of the condition with this seed; the last quarter stays as it is."""
    done = probe.perturb(TEXT, "shuffle", seed=3)
    expected = parse("shuffle").apply(done.before, rng=3)
    assert done.after.tolist() == expected.tolist()
    assert done.ids.tolist() == [*expected, *done.near]
    assert done.text.endswith(" seven eight")
    assert str(done) == done.text
    assert probe.perturb(TEXT, "shuffle", seed=3).text == done.text
    assert probe.perturb(TEXT, "shuffle", seed=4).text != done.text


@pytest.mark.slow
@given(st.sampled_from(["reverse", "shuffle", "drop(rate=0.5)", "truncate", "intact"]), st.data())
def test_marks_say_what_changed(condition, data):
    """What is neither removed nor changed stands before and after, in the same order."""
    words = data.draw(st.lists(st.sampled_from("abc"), min_size=4, max_size=12))
    done = probe.perturb(" ".join(words), condition, boundary=3, seed=data.draw(st.integers(0, 9)))
    assert len(done.changed) == len(done.ids) == len(done.after) + len(done.near)
    assert len(done.removed) == len(done.before) == 3
    assert not done.changed[len(done.after) :].any()
    if done.removed.any():
        assert done.before[~done.removed].tolist() == done.after.tolist()
    else:
        same = done.before == done.after
        assert (done.changed[:3] == ~same).all()


def test_a_models_tokens():
    """A tokenizer's ids, and text decoded from all of them together."""
    tokenizer = character_tokenizer(True)
    done = probe.perturb("the cat sat", "reverse", tokenizer=tokenizer, boundary=3)
    assert done.text == "eht cat sat"
    assert done.ids.tolist() == tokenizer("eht cat sat", add_special_tokens=False)["input_ids"]


def test_it_is_shown_with_what_changed():
    """The repr is one line; the HTML marks what moved and what is gone, and escapes all text."""
    hostile = "<u>a</u> b c \x1b d"
    assert repr(probe.perturb(hostile, "intact")) == r"<intact: '<u>a</u> b c \x1b d'>"
    moved = probe.perturb(hostile, "reverse", boundary=9)._repr_html_()
    gone = probe.perturb(hostile, "truncate", boundary=9)._repr_html_()
    for html in (moved, gone):
        assert "<u>" not in html
        assert "\x1b" not in html
        assert "&lt;u&gt;a" in re.sub("</?(mark|del)>", "", html)
    assert (moved.count("<del>"), gone.count("<del>")) == (0, 9)
    assert (moved.count("<mark>"), gone.count("<mark>")) == (8, 0)


@pytest.mark.parametrize(
    ("text", "condition", "more", "told"),
    [
        (TEXT, "shufle", {}, "did you mean 'shuffle'"),
        (TEXT, "attend(local(4))", {}, "allowed: probe.attend"),
        ("word", "shuffle", {}, "the text has 1 token"),
        (TEXT, "shuffle", {"boundary": 0}, "boundary is 0; allowed: 1 to 7"),
        (TEXT, "shuffle", {"boundary": 8}, "as the text has 8 tokens"),
        (TEXT, "shuffle", {"boundary": 1.5}, "boundary is 1.5; allowed: 1 to 7"),
        (TEXT, "truncate", {"boundary": True}, "boundary is True; allowed: 1 to 7"),
        (TEXT, "shuffle", {"tokenizer": 7}, "tokenizer is of type int; allowed: a name or folder"),
        (["a", "b"], "shuffle", {}, "text is of type list; allowed: a text"),
        ("a \ud800 b c", "shuffle", {}, "half of a character; allowed: Unicode text"),
        (TEXT, "shuffle", {"tokenizer": "package://no_such/x.gguf"}, "is not installed"),
    ],
)
def test_mistakes_are_one_line(text, condition, more, told):
    with pytest.raises(UsageError, match=told) as caught:
        probe.perturb(text, condition, **more)
    assert "\n" not in str(caught.value)


def test_attention_is_limited_inside_the_with_alone():
    """What the model gives there is what the pattern's own hook gives."""
    model, ids = tiny("llama"), torch.arange(3, 40)[None]
    with torch.inference_mode():
        before = model(ids).logits
        with probe.attend(model, "local(4)"):
            inside = model(ids).logits
        with apply_pattern(model, "local(4)"):
            plain = model(ids).logits
        after = model(ids).logits
    assert torch.equal(inside, plain)
    assert torch.equal(before, after)
    assert not np.allclose(inside, before, atol=1e-3)
    with (
        pytest.raises(UsageError, match="allowed: a model of transformers"),
        probe.attend(
            torch.nn.Linear(2, 2),  # type: ignore[arg-type]
            "local(4)",
        ),
    ):
        pass
