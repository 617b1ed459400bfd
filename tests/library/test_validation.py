"""Arguments are taken or refused by one sentence, whatever they are."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from vlmbook.validation import (
    KINDS,
    LARGEST,
    describe,
    require_callable,
    require_choice,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

X = torch.zeros(2, 3, 4, 5)


class Spiteful:
    """Everything that it is asked for fails."""

    __hash__ = None

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    def __index__(self):
        raise RuntimeError("no")

    def __float__(self):
        raise RuntimeError("no")


STRANGE = {
    "None": None,
    "True": True,
    "NumPy True": np.True_,
    "tensor True": torch.tensor(True),
    "complex": 1j,
    "text": "3",
    "bytes": b"3",
    "list": [],
    "dict": {},
    "set": {3},
    "object": object(),
    "class": int,
    "spiteful": Spiteful(),
    "array": np.ones((2, 3)),
    "vector": torch.ones(2),
    "empty tensor": torch.tensor([]),
    "complex tensor": torch.tensor(1j),
    "tensor elsewhere": torch.tensor(3, device="meta"),
    "function": len,
}


def refused(error, sentence, function, *arguments, **options):
    """The sentence is the whole message, on one line."""
    with pytest.raises(error) as refusal:
        function(*arguments, **options)
    assert re.fullmatch(sentence, str(refusal.value)), str(refusal.value)


# Tensors.


@pytest.mark.parametrize(
    "axes, options",
    [
        ("B C H W", {}),
        ("B C H W", {"C": 3, "W": 5}),
        ("2 3 4 5", {}),
        ("… H W", {}),
        ("… 3 H W", {"H": 4}),
        ("B C/groups H W", {"kind": "floating"}),
        ("B C H W", {"kind": "any", "least": 0, "most": 0, "finite": True}),
    ],
)
def test_a_tensor_comes_back_as_it_is(axes, options):
    assert require_tensor(X, "x", axes, **options) is X


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_takes_its_dtypes_and_no_others(kind):
    for dtypes in KINDS.values():
        for dtype in dtypes:
            x = torch.ones(3).to(dtype)
            if dtype in KINDS[kind]:
                assert require_tensor(x, "x", "N", kind=kind, least=0, most=1) is x
            else:
                refused(TypeError, rf"x wants .*, got {dtype}", require_tensor, x, "x", "N", kind=kind)


@pytest.mark.parametrize(
    "x, axes, options, error, sentence",
    [
        (
            X.tolist(),
            "B C H W",
            {},
            TypeError,
            r"x wants a torch.Tensor \(B, C, H, W\), got an object .* list",
        ),
        (X.numpy(), "N", {}, TypeError, r"x wants a torch.Tensor \(N,\), got a NumPy ndarray of shape .*"),
        (X, "B N", {}, ValueError, r"x wants the shape \(B, N\), got \(2, 3, 4, 5\)"),
        (X, "B C H W", {"C": 4}, ValueError, r"x wants the shape \(B, 4, H, W\), got \(2, 3, 4, 5\)"),
        (X, "B C H 4", {}, ValueError, r"x wants the shape \(B, C, H, 4\), got \(2, 3, 4, 5\)"),
        (X[0, 0], "… C H W", {}, ValueError, r"x wants the shape \(…, C, H, W\), got \(4, 5\)"),
        (
            X[:, :0],
            "B C H W",
            {},
            ValueError,
            r"x wants at least one element along C of \(B, .*, got \(2, 0, .*",
        ),
        (X[:0], "B C H W", {"empty": "C H"}, ValueError, r"x wants at least one element along B .*"),
        (X.long(), "B C H W", {}, TypeError, r"x wants a floating dtype, got torch.int64"),
        (X, "B C H W", {"kind": "int64"}, TypeError, r"x wants torch.int64, got torch.float32"),
        (X, "B C H W", {"least": 1}, ValueError, r"x wants values of at least 1, got from 0 to 0"),
        (X, "B C H W", {"most": -1}, ValueError, r"x wants values of at most -1, got from 0 to 0"),
        (
            X + 2,
            "B C H W",
            {"least": 0, "most": 1},
            ValueError,
            r"x wants values from 0 to 1, got from 2 to 2",
        ),
        (X * torch.nan, "B C H W", {"least": 0}, ValueError, r"x wants values .*, got from nan to nan"),
        (
            X * torch.nan,
            "B C H W",
            {"finite": True},
            ValueError,
            r"x wants finite values, got NaN or infinity",
        ),
        (
            X + torch.inf,
            "B C H W",
            {"finite": True},
            ValueError,
            r"x wants finite values, got NaN or infinity",
        ),
        (
            X.to(torch.cfloat),
            "… W",
            {"kind": "any", "least": 0},
            TypeError,
            r"x wants real numbers, got .*64",
        ),
        (
            X.to_sparse(),
            "B C H W",
            {},
            TypeError,
            r"x wants a dense torch.Tensor .*, got a sparse_coo torch.*",
        ),
    ],
)
def test_another_tensor_is_refused(x, axes, options, error, sentence):
    refused(error, sentence, require_tensor, x, "x", axes, **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused():
    for layout in (torch.strided, torch.jagged):
        x = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
        refused(
            TypeError, r"x wants a dense .*, got a nested tensor", require_tensor, x, "x", "N", kind="any"
        )


def test_an_empty_axis_is_taken_where_it_is_named():
    x = X[:0, :, :0]
    assert require_tensor(x, "x", "B C H W", empty="B H", least=5, finite=True) is x


def test_values_are_looked_at_only_where_there_are_some():
    there = X.to("meta")
    assert require_tensor(there, "x", "B C H W", least=5) is there


class Careful(nn.Module):
    """A module that checks what it gets, as those of the library do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        require_tensor(x, "x", "B Z", Z=3)
        require_same_kind(x, "x", self.linear.weight)
        return self.linear(x)


def test_a_module_that_checks_its_input_can_be_traced_and_exported():
    net, x = Careful(), torch.ones(2, 3)
    traced = fx.symbolic_trace(net)
    kinds = [node.op for node in traced.graph.nodes if node.op != "get_attr"]
    assert kinds == [
        "placeholder",
        "call_module",
        "output",
    ]
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close([traced(x), exported(x)], [net(x)] * 2)


# Numbers.


@pytest.mark.parametrize(
    "value", [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3), torch.tensor([3])]
)
def test_a_whole_number_is_anybodys(value):
    number = require_whole(value, "n")
    assert number == 3
    assert type(number) is int
    assert type(require_number(value, "n")) is float


@pytest.mark.parametrize(
    "value", [0.5, np.float16(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([[0.5]]), Fraction(1, 2)]
)
def test_a_number_is_anybodys(value):
    number = require_number(value, "n")
    assert number == 0.5
    assert type(number) is float
    refused(TypeError, r"n wants a whole number of at least 1, got .*", require_whole, value, "n")


def test_a_number_that_learns_is_a_number():
    assert require_number(torch.tensor(0.5, requires_grad=True), "n") == 0.5


@pytest.mark.parametrize("name", STRANGE)  # by name: pytest itself asks a value for its attributes
def test_what_is_no_number_is_refused(name):
    value = STRANGE[name]
    refused(TypeError, r"n wants a whole number of at least 1, got .+", require_whole, value, "n")
    refused(TypeError, r"n wants a finite number above 0, got .+", require_number, value, "n", above=0)
    refused((TypeError, ValueError), r"n wants .*, got .+", require_pair, value, "n")


@pytest.mark.parametrize(
    "value, bounds, got",
    [
        (0, {}, "0"),
        (-(10**30), {}, str(-(10**30))),
        (2**31, {}, "2147483648"),
        (10**30, {}, "1" + "0" * 30),
        (4, {"most": 3}, "4"),
        (0, {"least": 1, "most": 3}, "0"),
        pytest.param(10**5000, {"most": 3}, "a number of thousands of digits", id="huge"),
    ],
)
def test_a_whole_number_outside_is_refused(value, bounds, got):
    refused(
        ValueError, rf"n wants a whole number (of|from) .*, got {got}", require_whole, value, "n", **bounds
    )


@pytest.mark.parametrize(
    "value, bounds, sentence",
    [
        (0, {"above": 0}, "n wants a finite number above 0, got 0"),
        (0.5, {"above": 0, "most": 0.25}, "n wants a finite number above 0 and of at most 0.25, got 0.5"),
        (2, {"least": 0, "most": 1}, "n wants a finite number from 0 to 1, got 2"),
        (1, {"least": 0, "below": 1}, "n wants a finite number of at least 0 and below 1, got 1"),
        (float("nan"), {}, "n wants a finite number, got nan"),
        (float("inf"), {"above": 0}, "n wants a finite number above 0, got inf"),
        (10**400, {}, "n wants a finite number, got inf"),
        (np.float32("nan"), {}, "n wants a finite number, got nan"),
        (torch.tensor(torch.nan), {}, "n wants a finite number, got nan"),
    ],
)
def test_a_number_outside_is_refused(value, bounds, sentence):
    refused(ValueError, re.escape(sentence), require_number, value, "n", **bounds)


def test_the_largest_whole_number_can_be_named():
    assert require_whole(LARGEST, "n") == LARGEST
    assert require_whole(2**64 - 1, "seed", least=0, most=2**64 - 1) == 2**64 - 1


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 50))
def test_whole_bounds_hold(value, least, width):
    if least <= value <= least + width:
        assert require_whole(value, "n", least=least, most=least + width) == value
    else:
        refused(ValueError, r"n wants .*", require_whole, value, "n", least=least, most=least + width)


@pytest.mark.parametrize(
    "value, pair",
    [(2, (2, 2)), ((2, 3), (2, 3)), ([np.int64(2), torch.tensor(3)], (2, 3)), (X.shape[:2], (2, 3))],
)
def test_a_pair_is_one_number_or_two(value, pair):
    assert require_pair(value, "size") == pair
    assert all(type(number) is int for number in require_pair(value, "size"))


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3), [2.0, 1], (0, 1), (1, 9), 9, "ab", np.array([1, 2])])
def test_another_pair_is_refused(value):
    refused((TypeError, ValueError), r"size wants .+, got .+", require_pair, value, "size", most=8)


# Kinds, choices, types.


def test_the_same_kind_is_taken():
    assert require_same_kind(X, "x", torch.ones(1)) is X
    meta = X.to("meta")
    assert require_same_kind(meta, "x", torch.ones(1, device="meta")) is meta


def test_another_kind_is_refused():
    sentence = r"x wants the kind of the model, torch.float32 on cpu, got torch.float64 on cpu"
    refused(TypeError, sentence, require_same_kind, X.double(), "x", X)
    refused(TypeError, r"x wants .* of w, .* got .* on meta", require_same_kind, X.to("meta"), "x", X, "w")
    refused(TypeError, r"x wants .*", require_same_kind, X.to("meta").half(), "x", X.to("meta"))


def test_under_autocast_floating_dtypes_fit_each_other():
    with torch.autocast("cpu", torch.bfloat16):
        require_same_kind(X.bfloat16(), "x", X)
        refused(TypeError, r"x wants .*, got torch.int64 on cpu", require_same_kind, X.long(), "x", X)


@pytest.mark.parametrize("value", ["a", 1, None])
def test_a_choice_is_taken(value):
    assert require_choice(value, "mode", ("a", 1, None)) is value


def test_what_is_no_choice_is_refused():
    for value in ("b", 1.0, np.int64(1), ..., *list(STRANGE.values())[1:]):
        refused(
            ValueError, r"mode wants 'a' or 1 or None, got .+", require_choice, value, "mode", ("a", 1, None)
        )


def test_types_and_functions():
    assert require_type(X, "x", torch.Tensor, "a tensor") is X
    assert require_callable(len, "f") is len
    for value in (None, 3, "len", Spiteful()):
        refused(TypeError, r"x wants a tensor, got .+", require_type, value, "x", torch.Tensor, "a tensor")
        refused(TypeError, r"f wants a function, got .+", require_callable, value, "f")


# Descriptions of values.


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "None"),
        ("a\nb", r"'a\nb'"),
        ("x" * 100, "'" + "x" * 56 + "…"),
        ((1, None, 0.5), "(1, None, 0.5)"),
        (["x" * 100], "['" + "x" * 55 + "…"),
        ([X], "an object of type list"),
        (range(3), "an object of type range"),
        (int, "the class int"),
        (Spiteful, "the class Spiteful"),
        (Decimal("0.5"), "an object of type Decimal"),
        (np.ones((2, 3)), "a NumPy ndarray of shape (2, 3)"),
        (np.float32(1), "a NumPy float32 of shape ()"),
        (X, "a torch.float32 tensor of shape (2, 3, 4, 5)"),
        (X.to_sparse(), "a sparse_coo torch.float32 tensor of shape (2, 3, 4, 5)"),
        pytest.param(10**5000, "a number of thousands of digits", id="huge"),
        pytest.param([10**5000], "a number of thousands of digits", id="list of huge"),
    ],
)
def test_a_description_is_short_and_on_one_line(value, text):
    assert describe(value) == text


def test_a_description_never_asks_an_object_for_its_repr():
    class Liar(str):
        __slots__ = ()

        def __repr__(self):
            raise RuntimeError("no")

    assert describe(Liar("a")) == "an object of type Liar"
    assert describe(Spiteful()) == "an object of type Spiteful"
