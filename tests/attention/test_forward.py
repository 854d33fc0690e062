"""The attention of heads under one rule, at the places where rounding and order matter."""

import pytest
import torch

from probe.attention.forward import Heads, Visible, attend
from probe.attention.parse import parse


def test_segments_weigh_their_size_in_half_precision() -> None:
    """log(94) rounded to bfloat16 would weigh every segment 1.2 % too little."""
    far, near = 16 * 94, 16 * 94
    length = 1 + far + near
    zeros = torch.zeros((1, 1, length, 4), dtype=torch.bfloat16)
    value = zeros.clone()
    value[:, :, 1 : far + 1] = 1.0
    heads = Heads(zeros[:, :, -1:], zeros, value, 0, (0,), 1, None, None)
    own = torch.ones((1, 1, 1, length), dtype=torch.bool)
    visible = Visible(own, torch.tensor([length - 1]), torch.arange(length))
    rule = parse("pool(16)").rule(0, 0)
    found = attend(heads, rule, visible, boundary=far + 1)
    assert found.dtype == torch.bfloat16
    assert float(found[0, 0, 0, 0]) == pytest.approx(far / length, abs=1.5e-3)
