"""LongPPL on the page: its numbers, who chose the key tokens, and each of them marked."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from explained_run import Explained
from hostile import ATTACK
from probe.analysis.keys import KeyRule
from probe.analysis.longppl import longppl
from probe.report.explorer import explore
from probe.report.keys import NOTHING_CUT, key_section, key_text
from probe.report.page import render
from simulated import Simulation, write_run
from test_analysis_longppl import frame, texts, write

from probe.analysis.summary import summarise


class Tokens(HTMLParser):
    """The tokens of a page, by window: class and title of each."""

    def __init__(self, text):
        super().__init__()
        self.windows, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "div" and found.get("class") == "text tokens":
            self.windows.append([])
        if tag == "b":
            self.windows[-1].append((found.get("class"), found.get("title")))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module", name="folders")
def two_runs(tmp_path_factory):
    """Two models over the same documents, the second with other tokens."""
    place = tmp_path_factory.mktemp("keys")
    return (
        write(place / "mine", texts(9)),
        write(place / "theirs", texts(9), 2, seed=1, model="two"),
    )


def explained(folder):
    return Explained(summarise(folder, write=False))


def decimal(value):
    return f"{value:.3f}".replace("-", "−")


def test_the_answer_is_longppl(folders):
    """Value, interval, number of key tokens and documents, as `probe keys` gives them."""
    found, section = longppl(folders[0]), key_section(explained(folders[0]))
    low, high = found.interval
    assert section.finding.endswith(
        f"is {found.perplexity:.2f} (90 % interval {low:.2f}–{high:.2f})."
    )
    row = [
        *("model-one, run mine (this run)", f"{found.perplexity:.2f}", f"{low:.2f}–{high:.2f}"),
        *(f"{found.keys:,}", f"{found.targets:,}", f"{found.with_keys} of 9"),
    ]
    assert section.tables[0].rows == [row]
    assert any("chosen its own key tokens" in note for note in section.notes)
    text = render([explained(folders[0])])
    assert section.finding in "".join(Tokens(text).words)
    assert text.count('id="answer"') == 1
    assert "tokens of context" not in "".join(Tokens(text).words)


def test_lsd_by_distance(folders):
    """Every bin with mean, quantiles, shares and counts of a filter over all rows."""
    table = key_section(explained(folders[0])).tables[1]
    rows = frame(folders[0])
    rows = rows[(rows.condition == "truncate") & (rows.boundary > 0)]
    assert len(table.rows) == rows.distance.nunique()
    for distance, mean, *others in table.rows:
        own = rows[rows.distance == int(distance)]
        key = (own.lsd > 2) & (-own.nll_intact > -2)
        assert mean == decimal(own.lsd.mean())
        assert others[:6] == [
            decimal(own.lsd.quantile(q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
        ]
        assert others[6:8] == [f"{share.mean() * 100:.2f} %" for share in (own.lsd > 2, key)]
        assert others[8:] == [f"{len(own):,}", f"{own.document.nunique()}"]


def test_key_tokens_are_marked(folders):
    """All and none but the key tokens, each with its LSD and LCL in words."""
    found = explore(summarise(folders[0], write=False))
    rows = frame(folders[0])
    rows = rows[(rows.condition == "truncate") & (rows.boundary > 0)]
    shown = 0
    for window in found.windows:
        own = rows[rows.document == window.document].set_index("position")
        assert len(window.tokens) == len(own) > 0
        for place, token in enumerate(window.tokens, start=window.first):
            lsd, nll = own.loc[place, ["lsd", "nll_intact"]]
            expected = f"Key token: LSD {decimal(lsd)}, LCL {decimal(-nll)} nats"
            assert token.key == (expected if lsd > 2 and nll < 2 else None)
        shown += window.key_tokens
    assert found.keys == "LSD > 2, LCL > −2, chosen by model-one (run mine)"
    page = Tokens(render([explained(folders[0])]))
    titles = [title for window in page.windows for _, title in window]
    assert [t for t in titles if t] == [t.key for w in found.windows for t in w.tokens if t.key]
    assert all(
        ("key" in (name or "").split()) == (title is not None)
        for window in page.windows
        for name, title in window
    )
    assert f", {shown} in the text shown: " in "".join(page.words)


def test_several_runs_choose_for_one_another(folders):
    """Each run is also told with the key tokens of the others, and whose they are."""
    every = [explained(folder) for folder in folders]
    section = key_section(every[1], [each.summary for each in every])
    carried = longppl(folders[0], scored=folders[1])
    (own, other), lines = section.tables[0].rows, section.notes
    assert own[0] == "model-two, run theirs (this run)"
    assert other[0] == "model-one, run mine"
    assert other[1] == f"{carried.perplexity:.2f}"
    assert other[3:] == [f"{carried.keys:,}", f"{carried.targets:,}", f"{carried.with_keys} of 9"]
    assert any("carried over from" in line and "(run 'mine')" in line for line in lines)
    words = "".join(Tokens(render(every)).words)
    assert (
        f"theirs: LongPPL of model-two on made-up is {longppl(folders[1]).perplexity:.2f}" in words
    )


def test_keys_that_cannot_be_carried(folders, tmp_path):
    """Another text is a note; a run with another protocol is no chooser."""
    strange = write(tmp_path / "strange", {"x": "another text " * 9}, model="three")
    sweep = write_run(tmp_path / "sweep", Simulation({"truncate": lambda d: 0 * d}))
    others = [summarise(folder, write=False) for folder in (strange, sweep)]
    section = key_section(explained(folders[0]), others)
    assert len(section.tables[0].rows) == 1
    assert any(
        line.startswith("key tokens of model-three (run strange) cannot be carried over: ")
        for line in section.notes
    )
    assert key_section(explained(sweep), others) is None


def test_no_key_and_no_short_context(tmp_path):
    """Documents of one short context have neither LSD nor key tokens, and no explorer."""
    run = write(tmp_path / "run", {f"d{n}": "the cat sat on a mat, and then " for n in range(3)})
    section = key_section(explained(run))
    assert [table.caption for table in section.tables] == ["LongPPL, and who chose the key tokens"]
    assert section.tables[0].rows[0][1:4] == ["–", "–", "0"]
    assert NOTHING_CUT in section.notes
    assert explore(summarise(run, write=False)) is None
    assert "Token explorer" not in render([explained(run)])


def test_the_rule_is_strict():
    """A token at a limit is not key."""
    assert key_text(KeyRule(), 2.0, 0.5) is None
    assert key_text(KeyRule(), 2.5, 2.0) is None
    assert key_text(KeyRule(), 2.5, 1.5) == "Key token: LSD 2.500, LCL −1.500 nats"
    assert key_text(KeyRule(1.0, -3.0), 1.5, 2.5) == "Key token: LSD 1.500, LCL −2.500 nats"


def test_names_are_text(folders, tmp_path):
    """Of models and runs nothing becomes an element."""
    folder = shutil.copytree(folders[0], tmp_path / "run")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record |= {"name": f"{ATTACK}\u202e", "model": {"name": ATTACK}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = render([explained(folder)])
    assert re.findall("<script>", text) == ["<script>"]
    assert "\u202e" not in text
    assert "chosen by &lt;script&gt;" in text


def test_other_runs_have_no_key_tokens(tmp_path):
    """A sweep's page is what it was."""
    simulation = Simulation({"truncate": lambda d: 3 / (1 + d)})
    summary = summarise(write_run(tmp_path / "run", simulation), write=False)
    found = explore(summary)
    assert found.keys is None
    assert all(token.key is None for window in found.windows for token in window.tokens)
    text = render([Explained(summary)])
    assert 'class="key"' not in text
    assert "LongPPL" not in text
