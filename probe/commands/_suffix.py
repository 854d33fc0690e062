"""The answer of a run with protocol suffix, printed and drawn."""

from pathlib import Path

from probe.commands._visible import say


def tell(folder: Path) -> None:
    """Print the accuracy of a run folder by prefix, keep it in ``suffix.csv``, and draw it."""
    from probe.analysis.suffix import suffix
    from probe.analysis.suffix_answer import answer
    from probe.commands._answers import keep_figure, name_numbers
    from probe.plots import accuracy

    found = suffix(folder)
    say(f"{answer(found)}\n")
    if len(found.table):
        keep_figure(accuracy(found), folder / "figures" / "curve")
    name_numbers(folder, "suffix.csv", "summary.json")
