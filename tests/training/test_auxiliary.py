"""Losses of whole documents against plain forwards."""

import numpy as np
import pytest
import torch
from models import tiny
from test_trainer import arguments, trained

from probe.errors import UsageError
from probe.training.collate import Collate
from probe.training.next_segment import NextSegment
from probe.training.segment_order import SegmentOrder
from probe.training.trainer import WeightedTrainer

RNG = np.random.default_rng(1)
IDS = torch.from_numpy(RNG.integers(3, 96, size=60))


@pytest.fixture(name="model", scope="module")
def tiny_model():
    return tiny("llama", num_hidden_layers=2)


def mean_log_probability(model, before, behind):
    """Of the tokens *behind*, one plain forward a token."""
    found = []
    for number, token in enumerate(behind):
        given = torch.tensor([[*before, *behind[:number]]])
        logits = model(input_ids=given).logits[0, -1].double()
        found.append(torch.log_softmax(logits, -1)[token])
    return torch.stack(found).mean()


def drawn_of(auxiliary, ids):
    """What the task drew: its rows, as it forwards them."""
    rows = []

    def record(*, input_ids, use_cache):
        rows.append(input_ids)
        return tiny("llama", num_hidden_layers=2)(input_ids=input_ids)

    loss = auxiliary.of_document(record, ids, torch.Generator().manual_seed(3))
    ((given),) = rows
    return loss, given.tolist()


def test_next_segment_is_a_choice_among_segments(model):
    auxiliary = NextSegment(context=20, segment=6, distractors=3)
    loss, rows = drawn_of(auxiliary, IDS)
    context, segments = rows[0][:20], [row[20:] for row in rows]
    assert all(row[:20] == context for row in rows)
    text = IDS.tolist()
    (at,) = [n for n in range(41) if text[n : n + 20] == context]
    assert segments[0] == text[at + 20 : at + 26], "the first is the true one"
    places = [next(n for n in range(55) if text[n : n + 6] == one) for one in segments]
    assert len(set(places)) == 4
    assert all(abs(place - places[0]) >= 6 for place in places[1:])
    scores = torch.stack([mean_log_probability(model, context, one) for one in segments])
    expected = -torch.log_softmax(scores, 0)[0]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_segment_order_prefers_the_order_of_the_text(model):
    auxiliary = SegmentOrder(segment=12)
    loss, (own, swapped) = drawn_of(auxiliary, IDS)
    text = IDS.tolist()
    assert any(text[n : n + 24] == own for n in range(37))
    assert swapped == own[12:] + own[:12]
    scores = [mean_log_probability(model, row[:1], row[1:]) for row in (own, swapped)]
    expected = torch.log1p(torch.exp(scores[1] - scores[0]))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_short_documents_are_left_out(model):
    """Padding is no text; the mean is over the documents that are long enough."""
    auxiliary = SegmentOrder(segment=10)
    batch = Collate(2)([{"input_ids": IDS[:40]}, {"input_ids": IDS[:19]}])
    with torch.no_grad():
        both = auxiliary(model, batch["input_ids"], batch["labels"], 5)
        alone = auxiliary(model, batch["input_ids"][:1], batch["labels"][:1], 5)
        other = auxiliary(model, batch["input_ids"][:1], batch["labels"][:1], 6)
        short = auxiliary(model, batch["input_ids"][1:], batch["labels"][1:], 5)
    assert float(both) == float(alone) != float(other)
    assert float(short) == 0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_trainer_adds_them(tmp_path, steps):
    """The gradient is that of the sum, a mean over the micro-batches of a step."""
    rows = [{"input_ids": IDS[n : n + 40].tolist()} for n in (0, 5, 10, 20)]
    auxiliary = SegmentOrder(segment=10, weight=0.5)

    class Trainer(WeightedTrainer):
        def __init__(self, **given):
            super().__init__(**given, auxiliary=[auxiliary])

    size = {"per_device_train_batch_size": 4 // steps, "gradient_accumulation_steps": steps}
    found = trained(Trainer, rows, tmp_path, collate=Collate(2), **size)
    own = tiny("llama", num_hidden_layers=2)
    batch = Collate(2)(rows)
    losses = torch.nn.functional.cross_entropy(
        own(input_ids=batch["input_ids"]).logits[:, :-1].flatten(0, 1),
        batch["labels"][:, 1:].flatten(),
    )
    for at in range(0, 4, 4 // steps):
        part = slice(at, at + 4 // steps)
        more = auxiliary(own, batch["input_ids"][part], batch["labels"][part], 0)
        losses = losses + 0.5 * more / steps
    losses.backward()
    with torch.no_grad():
        expected = torch.cat([(w - 0.5 * w.grad).flatten() for w in own.parameters()])
    assert (found - expected).abs().max() < 2e-6


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"weight": 0}, "weight is 0; allowed: above 0"),
        ({"segment": 0}, "segment is 0; allowed: whole numbers from 1 on"),
        ({"seed": -1}, "seed is -1; allowed: whole numbers from 0 on"),
    ],
)
def test_a_mistake_is_one_line(given, line):
    with pytest.raises(UsageError) as error:
        SegmentOrder(**given)
    assert line in str(error.value)


@pytest.mark.slow
def test_packed_documents_are_refused(tmp_path):
    with pytest.raises(UsageError, match="auxiliary losses read whole documents"):
        WeightedTrainer(
            model=tiny("llama", num_hidden_layers=2),
            args=arguments(tmp_path),
            train_dataset=[{"input_ids": IDS[:30].tolist()}],
            data_collator=Collate(2, packed=True),
            auxiliary=[NextSegment(context=10, segment=5)],
        ).train()
