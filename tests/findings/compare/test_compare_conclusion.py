"""The sentence of a comparison: one number by a rule, its interval, and what follows from it."""

import numpy as np
import pytest
from compare_runs import change_record, compared, random_text, retokenise, rows_of, step
from simulated import Simulation, write_run

from probe.analysis.bootstrap import resample_weights, stretch
from probe.analysis.settings import Analysis
from probe.commands.compare import MORE
from probe.findings.compare.conclusion import CONDITIONS, conclusion, sentence
from probe.render.terminal import text

pytestmark = pytest.mark.slow

HOW = Analysis(resamples=100)
CURVES = {"truncate": step(32), "shuffle": step(64, 0.6)}
KEYS = ["document", "window", "position", "boundary", "condition"]


def made(folder, **changes):
    known = {"curves": CURVES, "windows": 1, "length": 256, "boundaries": (60, 128), "reach": 128}
    return random_text(write_run(folder, Simulation(**(known | changes))))


def shifted(height):
    """``CURVES``, of which truncation costs so many nats more everywhere."""
    return CURVES | {"truncate": lambda d: CURVES["truncate"](d) + height}


def said(a, b):
    return sentence(compared(a, b, analysis=HOW))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs, of which the second loses 0.1 nats more without far text."""
    root = tmp_path_factory.mktemp("pair")
    b = made(root / "b", curves=shifted(0.1), name="second", token_spread=0.03)
    return made(root / "a", name="first"), b


def test_a_planted_difference_is_told(pair):
    """More or less by which is first; the amount, its interval and the far distances."""
    a, b = pair
    more, less = said(a, b), said(b, a)
    assert more.startswith(
        "At distances of 16–127 tokens under truncate, B loses 0.096 nats per token"
    )
    assert "more than A (95 % interval 0.092 to 0.100)" in more
    assert ": it uses far text more; " in more
    assert "nats per token less than A (95 % interval 0." in less
    assert ": it uses far text less; " in less
    assert more.partition("(")[2].partition(")")[0] == less.partition("(")[2].partition(")")[0]


def test_the_number_is_that_of_a_plain_bootstrap(pair):
    """Octave by octave a paired mean, their mean, documents drawn in a loop."""
    found = compared(*pair, analysis=HOW)
    (row,) = found.far.query("unit == 'tokens' and condition == 'truncate'").to_dict("records")
    assert (row["distance_from"], row["distance_to"], row["octaves"]) == (16, 128, 3)
    rows = [rows_of(folder).query("condition == 'truncate' and not grey") for folder in pair]
    both = rows[0].merge(rows[1][[*KEYS, "delta"]], on=KEYS, suffixes=("_a", "_b"))
    both = both[both.distance.between(16, 127)].assign(d=lambda f: f.delta_b - f.delta_a)
    both["octave"] = np.floor(np.log2(both.distance))
    sums = both.pivot_table("d", "document", "octave", aggfunc="sum")
    counts = both.pivot_table("d", "document", "octave", aggfunc="count")
    mean = (sums.sum() / counts.sum()).mean()
    draws = [
        ((weights @ sums) / (weights @ counts)).mean()
        for weights in resample_weights(8, HOW.resamples, HOW.seed)
    ]
    stretched = mean + stretch(8, 0.95) * (np.array(draws) - mean)
    expected = [mean, *np.quantile(stretched, [0.025, 0.975])]
    np.testing.assert_allclose([row["difference"], row["low"], row["high"]], expected, atol=1e-9)
    assert (row["documents"], row["targets"]) == (8, len(both))


def test_the_distances_do_not_depend_on_losses(tmp_path):
    """A difference in the near octaves alone is none at the far ones, however large."""
    near = {"truncate": lambda d: np.where(d < 16, 2.0, 0.1)}
    a = made(tmp_path / "a", curves={"truncate": lambda d: np.full(len(d), 0.1)})
    b = made(tmp_path / "b", curves=near, seed=0)
    text = said(a, b)
    assert text.startswith("At distances of 16–127 tokens under truncate, B − A is ")
    assert "not significantly different from 0" in text


@pytest.mark.parametrize(
    ("reach", "first", "octaves"), [(8, 0, 1), (16, 8, 1), (32, 8, 2), (64, 16, 2), (100, 16, 3)]
)
def test_far_is_the_far_half_of_the_octaves(tmp_path, reach, first, octaves):
    """Of n those behind the first n // 2, however many targets they have."""
    run = made(tmp_path / "a", boundaries=(128,), reach=reach)
    row = compared(run, run, analysis=HOW).far.iloc[0]
    assert row[["distance_from", "distance_to", "octaves"]].tolist() == [first, reach, octaves]


def test_equal_runs_differ_by_nothing(pair):
    """0, and no claim."""
    text = said(pair[0], pair[0])
    assert "B − A is 0 nats per token (95 % interval 0 to 0): not significantly different" in text
    assert text.endswith("effective contexts at 1 % of perplexity are not significantly different.")


def test_a_longer_context_is_told(tmp_path):
    """Where the interval of the difference of lengths leaves out 0, in either direction."""
    a = made(tmp_path / "a", boundaries=(128,))
    b = made(tmp_path / "b", boundaries=(128,), curves={"truncate": step(96)})
    assert said(a, b).endswith("its effective context at 1 % of perplexity is longer.")
    assert said(b, a).endswith("its effective context at 1 % of perplexity is shorter.")


def test_two_lengths_beyond_the_reach_are_not_told_apart(tmp_path):
    """And why stands behind it."""
    run = made(tmp_path / "a", boundaries=(128,), curves={"truncate": step(999)})
    words = "are not significantly different (both lie beyond the 128 tokens compared)."
    assert said(run, run).endswith(words)


def test_other_conditions_have_words_of_their_own(tmp_path):
    """Without truncate the content, then the order of far text; of what else how it is called."""
    for number, (name, words) in enumerate(
        [
            ("replace(source='document')", "it uses the content of far text more"),
            ("shuffle", "it uses the order of far text more"),
            ("drop(rate=0.5)", "it depends on far text more"),
        ]
    ):
        a = made(tmp_path / f"a{number}", curves={name: step(999)})
        b = made(tmp_path / f"b{number}", curves={name: step(999, 0.6)})
        text = said(a, b)
        assert f"under {name}, B loses 0." in text
        assert words in text


def test_what_lowers_the_loss_shows_no_use(tmp_path):
    """Of two runs that both lose less without far text none uses it more."""
    a = made(tmp_path / "a", curves={"truncate": step(999, -0.5)})
    b = made(tmp_path / "b", curves={"truncate": step(999, -0.2)})
    text = said(a, b)
    assert " nats per token more than A (95 % interval 0." in text
    assert "but neither run loses by it, so this does not say which uses far text more" in text


def test_few_documents_are_unresolved(tmp_path):
    """No interval, and no claim."""
    run = made(tmp_path / "a", documents=4)
    text = said(run, run)
    assert "nats per token, unresolved: 4 documents, at least 6 needed" in text
    assert text.endswith("effective contexts are unresolved.")


def test_other_tokenizers_are_told_in_bits_per_byte(tmp_path):
    """Distances in bytes of text."""
    run = Simulation(
        curves={"truncate": step(64)}, windows=1, length=256, boundaries=(128,), reach=128
    )
    a = write_run(tmp_path / "a", run)
    b = retokenise(write_run(tmp_path / "b", run), 6)
    text = said(a, b)
    assert " bytes under truncate, B " in text
    assert " bits per byte less than A (95 % interval " in text


def test_other_documents_are_said(tmp_path):
    """A difference of models and texts together is no difference of models."""
    a = made(tmp_path / "a")
    b = random_text(made(tmp_path / "b", documents=10, seed=5, data="other"), seed=9)
    assert ", each on documents of its own, " in said(a, b)


@pytest.mark.parametrize(
    ("curves", "protocol", "words"),
    [
        ({"shuffle": step(9)}, {}, "no condition is in both (A: shuffle, truncate; B: reverse)"),
        (CURVES, {"kind": "band", "edges": [0, 64, 128]}, "protocol sweep of A and band of B do"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, curves, protocol, words):
    """No condition in common, or other text that is perturbed: no number."""
    curves = {"reverse": step(9)} if not protocol else curves
    a, b = made(tmp_path / "a"), made(tmp_path / "b", curves=curves)
    if protocol:
        change_record(b, config={"protocol": protocol})
    text = said(a, b)
    assert text.startswith("A and B cannot be compared: ")
    assert words in text
    assert "interval" not in text


def test_of_bands_no_length_is_told(tmp_path):
    """What lies beyond a band stays: neither far text nor a length."""
    folders = [made(tmp_path / name) for name in "ab"]
    for folder in folders:
        change_record(folder, config={"protocol": {"kind": "band", "edges": [0, 64, 128]}})
    found = compared(*folders, analysis=HOW)
    assert found.contexts.empty
    assert "effective context" not in text(conclusion(found)).lower()
    other = made(tmp_path / "c", curves=shifted(0.5))
    change_record(other, config={"protocol": {"kind": "band", "edges": [0, 64, 128]}})
    assert "it depends on the text perturbed there more" in said(folders[0], other)


def test_one_screen_is_one_screen(tmp_path):
    """40 lines of 120 columns, whatever the run: many conditions, a long reach, long names."""
    names = ["truncate", *(f"drop(rate=0.{digit})" for digit in range(1, 9)), "shuffle"]
    folders = []
    for name, seed in (("a", 0), ("b", 7)):
        run = made(
            tmp_path / name,
            curves=dict.fromkeys(names, step(700)),
            length=4096,
            distances=[0, *(8 << octave for octave in range(9))],
            name=f"{name}{'x' * 150}",
            model=f"{name} of a long name " * 9,
            noise_spread=None,
            seed=seed,
        )
        change_record(run, status="unfinished", config={"seed": seed, "first_token": name})
        folders.append(run)
    found = compared(*folders, analysis=HOW)
    lines = text(conclusion(found), [MORE], wrap=True).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    screen = "\n".join(lines)
    assert f"without {len(names) - CONDITIONS} more" in screen
    assert "(without the 1 nearest)" in screen
    assert "- they also differ in first_token: a in A, b in B; seed: 0 in A, 7 in B" in screen
    assert "- A: run 'a' is unfinished" in screen
    assert lines[-1].endswith("--full")


def test_names_are_escaped(tmp_path):
    """Nothing in the name of a run, a model or a condition reaches a terminal."""
    run = made(tmp_path / "a", name="\x1b[31m", model="\u202e", data="a\nb")
    shown = text(conclusion(compared(run, run, analysis=HOW)), wrap=True)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[31m (1), \\u202e on a\\nb" in shown
