"""Tables as plain data."""

from probe.findings.table import pivot


def test_lines_with_equal_texts_can_be_told_apart():
    """A class ``a: b`` with the value ``c``, and a class ``a`` with the value ``b: c``."""
    rows = [
        {"class": "a: b", "value": "c", "at": "1%", "text": "1"},
        {"class": "a", "value": "b: c", "at": "1%", "text": "2"},
        {"class": "a", "value": "b: c", "at": "2%", "text": "3"},
    ]

    def made(**how):
        head = {"class": lambda row: f"{row['class']}: {row['value']}"}
        table = pivot("", rows, ["1%", "2%"], by="at", cell=lambda r: r["text"], head=head, **how)
        return [list(row) for row in table.rows]

    assert made(line=["class", "value"]) == [["a: b: c", "1", "–"], ["a: b: c", "2", "3"]]
    assert made() == [["a: b: c", "2", "3"]], "by their texts alone they are one line"
