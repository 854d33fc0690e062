"""What a command says of itself: examples that can be typed, words that the shell completes."""

import shlex
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from command_line import probe

from probe.commands.main import COMMANDS, group


def commands() -> dict[str, click.Command]:
    context = click.Context(group)
    return {name: command for name in COMMANDS if (command := group.get_command(context, name))}


def examples(command: click.Command) -> list[str]:
    """The command lines at the end of its help."""
    return [line.strip() for line in (command.epilog or "").splitlines() if "  probe" in line]


EXAMPLES = [line for command in [group, *commands().values()] for line in examples(command)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples(name: str) -> None:
    """Two or more, of the command itself."""
    own = examples(commands()[name])
    assert len(own) > 1
    assert all(name in shlex.split(line, comments=True) for line in own)


@pytest.fixture(autouse=True)
def _nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line is read, and what it asks for is not done; a file of one's own is empty."""
    monkeypatch.chdir(tmp_path)
    Path("my.py").touch()
    for command in commands().values():
        monkeypatch.setattr(command, "callback", lambda **_: None)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_command_lines(line: str) -> None:
    """Each is read by click as a user's own would be: commands, options and values are there."""
    program, *words = shlex.split(line, comments=True)
    assert program == "probe"
    result = probe(*words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "line",
    ["probe rnu", "probe run my.yaml --modle x", "probe plan --from", "probe plot a --kind curv"],
)
def test_an_example_that_is_none_is_found(line: str) -> None:
    """The test above sees commands, options, values and kinds that there are not."""
    with pytest.raises(AssertionError, match="Error: "):
        test_examples_are_command_lines(line)


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        ([], "ru", {"run"}),
        ([], "--qu", {"--quiet"}),
        (["run"], "--qu", {"--quiet"}),
        (["--log-level"], "de", {"debug"}),
        (["plan", "a.yaml"], "--fr", {"--from"}),
        (["plot", "a", "--kind"], "cl", {"classes"}),
        (["show"], "shu", {"shuffle", "shuffle_spans"}),
        (["report", "a", "--class"], "fre", {"frequency"}),
        (["check", "m", "--dtype"], "bf", {"bfloat16"}),
    ],
)
def test_words_are_completed(words: list[str], incomplete: str, found: set[str]) -> None:
    """Commands, options, kinds, perturbations and classes, by their beginning."""
    shell = ShellComplete(group, {}, "probe", "_PROBE_COMPLETE")
    assert {item.value for item in shell.get_completions(words, incomplete)} == found


@pytest.mark.parametrize(
    ("words", "kind"), [(["report"], "dir"), (["plan", "--from"], "dir"), (["run"], "file")]
)
def test_paths_are_the_shells(words: list[str], kind: str) -> None:
    """Run folders and configurations are completed by the shell, folders or files."""
    shell = ShellComplete(group, {}, "probe", "_PROBE_COMPLETE")
    assert {item.type for item in shell.get_completions(words, "r")} == {kind}


def test_completion_runs_no_code() -> None:
    """A file of the user's own is run by a command, not by a word that is completed."""
    Path("my.py").write_text("from pathlib import Path\nPath('ran').touch()", encoding="utf-8")
    shell = ShellComplete(group, {}, "probe", "_PROBE_COMPLETE")
    (found,) = shell.get_completions(["show", "--perturbations", "my.py"], "shuffle_")
    assert found.value == "shuffle_spans"
    assert not Path("ran").exists()
    probe("show", "--perturbations", "my.py", "shuffle")
    assert Path("ran").exists()
