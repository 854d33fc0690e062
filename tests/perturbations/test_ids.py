"""Token ids of every kind go in, and come out as they came."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations.ids import like, to_array

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@settings(deadline=None)
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_list_comes_back_as_the_same_list(ids):
    """A list of any int64 goes through an array and back unchanged, as plain ints."""
    back = like(to_array(ids), ids)
    assert back == ids
    assert all(type(value) is int for value in back)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_an_array_keeps_its_dtype(dtype):
    """Every integer dtype of numpy comes back as itself, on another length too."""
    ids = np.array([3, 1, 2], dtype=dtype)
    array = to_array(ids)
    assert array.dtype == np.int64
    back = like(array[:2], ids)
    assert back.dtype == ids.dtype
    assert back.tolist() == [3, 1]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_a_tensor_keeps_its_dtype_and_device(dtype):
    """Every integer dtype of torch comes back as itself."""
    ids = torch.tensor([3, 1, 2]).to(getattr(torch, dtype))
    back = like(to_array(ids), ids)
    assert back.dtype == ids.dtype
    assert back.device == ids.device
    assert back.tolist() == [3, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_a_tensor_stays_on_its_accelerator():
    """Ids of an accelerator come back to it."""
    ids = torch.arange(5, device="cuda")
    assert like(to_array(ids), ids).device == ids.device


@pytest.mark.parametrize("empty", [[], np.array([], dtype=np.int32), torch.tensor([]).int()])
def test_no_ids_are_ids(empty):
    """Nothing at all is a far context of length 0, of the same kind."""
    back = like(to_array(empty), empty)
    assert type(back) is type(empty)
    assert len(back) == 0


@pytest.mark.parametrize("ids", [np.arange(3), torch.arange(3)])
def test_the_array_is_a_copy(ids):
    """Writing into the array leaves what it was made of untouched."""
    to_array(ids)[:] = 9
    assert ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((2, 3), dtype=int), r"far must have one dimension; got shape \(2, 3\)"),
        (np.array(5), r"far must have one dimension; got shape \(\)"),
        (torch.zeros(2, 3, dtype=torch.int), r"far must have one dimension; got shape \(2, 3\)"),
        (np.array([1.5, 2.0]), r"far must hold integers; got float64: \[1.5 2. \]"),
        (np.array([True]), "far must hold integers; got bool"),
        (torch.tensor([1.5]), "far must hold integers; got a tensor of float32"),
        (torch.tensor([1.5]).bfloat16(), "far must hold integers; got a tensor of bfloat16"),
        (torch.tensor([True]), "far must hold integers; got a tensor of bool"),
        ([1, 2.5], r"far must hold integers; got 2.5 \(float\)"),
        ([1, True], r"far must hold integers; got True \(bool\)"),
        ([[1, 2]], r"far must hold integers; got \[1, 2\] \(list\)"),
        ([2**63], "far must hold integers that fit int64; got 9223372036854775808"),
        ([2**70], "far must hold integers; got object"),
        ("abc", r"far must be a list of int, .* got 'abc' \(str\)"),
        (None, r"far must be a list of int, .* got None \(NoneType\)"),
    ],
)
def test_what_are_no_ids_is_refused(wrong, said):
    """The error says what is wrong, the value, and what is allowed."""
    with pytest.raises(ValueError, match=said):
        to_array(wrong)


def test_an_id_that_does_not_fit_is_not_wrapped_around():
    """An id beyond the dtype of far is an error, never another id."""
    with pytest.raises(ValueError, match=r"id 300 does not fit uint8, .* allowed: 0 to 255"):
        like(np.array([1, 300]), np.array([1], dtype=np.uint8))
    with pytest.raises(ValueError, match="id -1 does not fit uint8"):
        like(np.array([-1, 3]), torch.tensor([1], dtype=torch.uint8))


def test_importing_perturbations_loads_nothing_heavy():
    """A perturbation costs numpy alone: no torch, transformers, pandas or pydantic."""
    code = (
        "import sys, probe.perturbations.registry, probe.perturbations.condition as condition\n"
        "condition.parse('shuffle').apply([1, 2, 3], rng=0)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'pydantic'}\n"
        "sys.exit(f'{heavy & sys.modules.keys()}' if heavy & sys.modules.keys() else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
