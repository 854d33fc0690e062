"""`probe list` names everything that a configuration may name."""

import subprocess
import sys
from typing import get_args

import pytest
from click.testing import CliRunner

from probe import config
from probe.classes import registry as classes
from probe.commands import list as listing
from probe.engine import losses
from probe.perturbations import registry
from probe.perturbations.samplers import SOURCES
from probe.protocols import registry as protocols


def listed() -> str:
    result = CliRunner().invoke(listing.command, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_every_registered_perturbation_is_listed_with_its_summary():
    """Each begins a line with parameters and defaults, its summary beside it or below."""
    rows = listed().splitlines()
    for name in registry.names():
        entry = registry.get(name)
        wanted = f"  {listing.signature(entry)}"
        (row,) = [row for row in rows if row == wanted or row.startswith(f"{wanted}  ")]
        assert entry.summary[:40] in " ".join(rows[rows.index(row) :][:2])


def test_every_token_class_is_listed_with_its_parameters():
    """Those that are registered, by name, and how to name a function of one's own."""
    text = listed()
    rows = text[text.index("Token classes\n") :].splitlines()
    for name in classes.names():
        entry = classes.get(name)
        (row,) = [row for row in rows if row.startswith(f"  {listing.signature(entry)}")]
        assert entry.summary[:20] in " ".join(rows[rows.index(row) :][:2])
    assert any(row.startswith("  path/to/file.py:function  ") for row in rows)
    assert "  frequency(top=0.1)  " in text


def test_signatures_are_those_a_condition_takes():
    """A default is shown as a value, a required parameter as a name."""
    signatures = [
        listing.signature(registry.get(name)) for name in ("hide", "shuffle_spans", "truncate")
    ]
    assert signatures == ["hide(sinks=0)", "shuffle_spans(span, within=None)", "truncate"]


def test_a_users_perturbation_is_listed():
    """What is registered is listed, whoever wrote it, and wrapped where it is long."""

    @registry.register("mine")
    def mine(far, *, rng, words=("a long default value",) * 12):
        """Do what nobody did before, and say so in a sentence that is longer than a line can be.

        More.
        """
        return far

    @registry.register("bare")
    def bare(far, *, rng):
        return far

    text = listed()
    assert "  mine(words=(" in text
    assert "Do what nobody did before" in text
    assert "\n  bare\n" in text
    assert max(map(len, text.splitlines())) <= listing.COLUMNS


def test_it_fits_100_columns_and_ends_no_line_with_spaces():
    """Nothing is wider than the page, nothing is padded."""
    rows = listed().splitlines()
    assert max(map(len, rows)) <= 100
    assert [row.rstrip() for row in rows] == rows


def test_the_texts_cover_what_the_program_knows():
    """No source, measure, protocol key or first_token mode is missing or made up."""
    fields = config.Config.model_fields
    assert all(f"source={name!r}" in listed() for name in SOURCES)
    assert tuple(listing.MEASURES) == losses.MEASURES
    assert tuple(listing.FIRST_TOKEN) == get_args(fields["first_token"].annotation)
    for protocol in protocols.protocols():
        texts = {key: field.description for key, field in protocol.model_fields.items()}
        assert texts.pop("kind") is None
        assert all(texts.values()), protocol


def test_protocol_keys_are_written_as_in_a_configuration():
    """Defaults are YAML; a key without one is said to be required."""
    text = listed()
    for key in ("reach: null", "spread: 0.25", "insist: false"):
        assert f"    {key}  " in text
    assert "distances (required)" in text
    assert "    runs: {1: 1, 4: 2, 8: 2, 64: 16}\n" in text  # too long for a word beside it
    assert "targets: {count: 10, end_offset: 40, alone: false}\n" in text


@pytest.mark.slow
def test_listing_loads_no_model_library():
    """The list is there at once: no torch, transformers or pandas is imported for it."""
    code = (
        "import sys\nfrom probe.commands.list import command\n"
        "assert not {'numpy', 'pydantic', 'yaml'} & set(sys.modules), 'at import'\n"
        "command(standalone_mode=False)\n"
        "print({'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
