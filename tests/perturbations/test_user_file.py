"""Perturbations of the user's own: from a file, in every place where built-in ones are."""

import numpy as np
import pytest
from click.testing import CliRunner

from probe.commands import list as listing
from probe.commands import show
from probe.config import check
from probe.errors import UsageError
from probe.perturbations.condition import code_versions, parse
from probe.registry import run_file

ROTATE = '''
import numpy as np
from probe.perturbations.registry import register

@register("rotate_for_a_test")
def rotate(far, *, rng, by: int = 1):
    """Move every token by some places."""
    return np.roll(far, by)
'''
CONTENT = {
    "name": "own",
    "model": {"path": "tiny"},
    "data": {"path": "stdlib"},
    "windows": {"length": 64},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(ROTATE)
    return str(path)


def test_a_file_named_in_the_configuration(file):
    config = check(
        {**CONTENT, "perturbations": [file], "conditions": ["rotate_for_a_test(2)", "truncate"]}
    )
    assert config.conditions == ["rotate_for_a_test(by=2)", "truncate"]
    np.testing.assert_array_equal(config.parsed[0].apply([1, 2, 3, 4], rng=0), [3, 4, 1, 2])


def test_without_its_file_the_name_is_unknown():
    with pytest.raises(UsageError, match="unknown perturbation 'rotate_for_a_test'"):
        check({**CONTENT, "conditions": ["rotate_for_a_test"]})


def test_listed_and_shown(file):
    """A file given on the command line is as good as a built-in perturbation."""
    listed = CliRunner().invoke(listing.command, ["--perturbations", file])
    assert "rotate_for_a_test(by=1)" in listed.stdout
    assert "Move every token by some places." in listed.stdout
    shown = CliRunner().invoke(show.command, ["rotate_for_a_test", "--perturbations", file])
    assert shown.exit_code == 0
    assert "100.0 % of tokens kept" in shown.stdout


def test_its_mark_changes_with_its_code(file, tmp_path):
    """Built-in ones have none: what they do belongs to the version."""
    run_file(file)
    conditions = [
        parse("rotate_for_a_test"),
        parse("[drop(0.5), rotate_for_a_test]"),
        parse("shuffle"),
    ]
    before = code_versions(conditions)
    assert list(before) == ["rotate_for_a_test"]
    (tmp_path / "own.py").write_text(ROTATE.replace("np.roll(far, by)", "np.roll(far, -by)"))
    run_file(file)
    assert code_versions(conditions).keys() == before.keys()
    assert code_versions(conditions) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = ", "cannot be loaded: SyntaxError"),
        ("raise RuntimeError('no\\nway')", "cannot be loaded: RuntimeError: no way"),
        (ROTATE.replace("rotate_for_a_test", "shuffle"), "is already"),
        (ROTATE.replace("*, rng, ", ""), "must have the face"),
        ("import sys; sys.exit(3)", "cannot be loaded: SystemExit: 3"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, message):
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        check({**CONTENT, "perturbations": [str(path)], "conditions": ["shuffle"]})
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 2  # the headline and the mistake


def test_no_such_file():
    with pytest.raises(UsageError, match=r"'nowhere\.py' cannot be read: No such file"):
        run_file("nowhere.py")
