"""The experiments of appendix A: the graph of the notebook against PyTorch, sizes, other processes, what is
recorded.
"""

import json
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tests.chapters.appendix_a import cells
from vlmbook.chapters.appendix_a import alone, elsewhere, experiments
from vlmbook.notebook import kernel

GRAPH = cells.load_graph()
NUMBER = st.floats(-2, 2, allow_nan=False).map(lambda value: round(value, 3))


# --- the graph of the notebook ------------------------------------------------------------------------------


@given(st.lists(NUMBER, min_size=15, max_size=15))
@settings(max_examples=60)
def test_the_gradients_of_a_network_are_pytorchs(numbers):
    ours = [GRAPH["Node"](number) for number in numbers]
    loss = GRAPH["small_loss"](ours)
    GRAPH["backward"](loss)
    theirs = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    GRAPH["small_loss"](theirs).backward()
    assert_close(torch.tensor([node.grad for node in ours], dtype=torch.float64), theirs.grad)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["+", "*", "relu", "exp", "log"]), st.integers(0, 20), st.integers(0, 20)),
    min_size=1,
    max_size=12,
)


@given(st.lists(NUMBER, min_size=3, max_size=3), OPERATIONS)
@settings(max_examples=80)
def test_the_gradients_of_any_graph_are_pytorchs(numbers, operations):
    """Nodes are used several times, or not at all."""
    ours = grow([GRAPH["Node"](number) for number in numbers], operations, lambda node: node.value)
    leaves = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in numbers]
    theirs = grow(leaves, operations, lambda tensor: tensor.item())
    GRAPH["backward"](ours[-1])
    theirs[-1].backward()
    assert ours[-1].value == pytest.approx(theirs[-1].item())
    for node, leaf in zip(ours, leaves, strict=False):
        assert node.grad == pytest.approx(0.0 if leaf.grad is None else leaf.grad.item(), rel=1e-6, abs=1e-9)


def grow(nodes, operations, value):
    """Three inputs, (operation, place, place) -> all nodes; exp and log only where they stay in bounds."""
    found = list(nodes)
    for name, one, two in operations:
        a, b = found[one % len(found)], found[two % len(found)]
        if name == "+":
            found.append(a + b)
        elif name == "relu":
            found.append(a.relu())
        elif name == "exp" and value(a) < 3:
            found.append(a.exp())
        elif name == "log" and value(a) > 0.1:
            found.append(a.log())
        elif abs(value(a) * value(b)) < 1e3:
            found.append(a * b)
    return found if len(found) > len(nodes) else [*found, found[0] * found[1]]


def test_it_has_about_forty_lines():
    source = [cells.find_definitions()[name] for name in ("Node", "sort_nodes", "backward")]
    lines = [line for line in "\n".join(source).splitlines() if line.strip()]
    assert 30 <= len(lines) <= 45


def test_pytorchs_graph_is_listed_from_the_result_on():
    x = torch.tensor(2.0, requires_grad=True)
    assert experiments.list_functions((x * x).exp() + x) == ["Add", "Exp", "Mul"]


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("side", "kernel"), [(16, 3), (17, 5), (28, 3), (32, 5)])
def test_sizes_are_those_of_pytorchs_layers(side, kernel, padding, stages):
    layers, channels = [], 1
    for _ in range(stages):
        layers += [nn.Conv2d(channels, 32, kernel, padding=padding), nn.MaxPool2d(2)]
        channels = 32
    net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(128), nn.Linear(128, 10))
    x, shapes = torch.zeros(1, 1, side, side), []
    for layer in net:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    sizes = experiments.list_sizes(side, kernel=kernel, padding=padding, stages=stages)
    assert [shape for _, shape, _ in sizes[1:]] == shapes
    counted = experiments.count_parameters(side, kernel=kernel, padding=padding, stages=stages)
    assert counted == sum(parameter.numel() for parameter in net.parameters())


def test_an_image_that_vanishes_is_refused():
    with pytest.raises(ValueError, match="nothing is left"):
        experiments.list_sizes(6, kernel=5, stages=2)


# --- weights and orders -------------------------------------------------------------------------------------


def test_weights_in_keras_layout_are_the_same_function():
    """Applied with the channels last, in NumPy."""
    names = cells.load("torch_model", "torch_predict", "to_keras")
    model = names["torch_model"](3)
    arrays = experiments.load_arrays()
    weights = [parameter.detach().numpy() for parameter in model.parameters()]
    kernel, bias1, hidden, bias2, output, bias3 = names["to_keras"](weights)
    images = arrays["images"][:3]
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 3), axis=(1, 2))
    x = np.einsum("nhwij,ijo->nhwo", windows, kernel[:, :, 0]) + bias1
    x = np.maximum(x, 0).reshape(3, 13, 2, 13, 2, 32).max((2, 4)).reshape(3, -1)
    logits = np.maximum(x @ hidden + bias2, 0) @ output + bias3
    np.testing.assert_allclose(logits, names["torch_predict"](model, images), atol=1e-5)


def test_an_order_holds_each_image_once_an_epoch():
    order = alone.draw_order(100, 1, steps=7, batch_size=30)
    assert order.shape == (7, 30)
    assert len(set(order[:3].ravel())) == 90 and set(order[:3].ravel()) != set(range(90))
    assert np.array_equal(order, alone.draw_order(100, 1, steps=7, batch_size=30))
    assert not np.array_equal(order, alone.draw_order(100, 2, steps=7, batch_size=30))


def test_weights_are_set_and_parameters_counted():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    weights = [np.full(tuple(parameter.shape), 0.5, np.float32) for parameter in net.parameters()]
    alone.set_weights(net, weights)
    assert all((parameter == 0.5).all() for parameter in net.parameters())
    assert alone.count_parameters(net) == 11


def test_the_interval_of_a_mean_is_students():
    middle, low, high = experiments.mean_interval([0.9, 0.92, 0.94])
    assert middle == pytest.approx(0.92) and high - middle == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3)
    assert middle - low == pytest.approx(high - middle)


# --- a choice on the test set -------------------------------------------------------------------------------


def test_a_choice_is_worth_something_and_no_choice_nothing():
    right = torch.rand(50, 400, generator=torch.Generator().manual_seed(0)) < 0.8
    chosen, fresh = experiments.measure_choice(right, splits=100)
    assert np.mean(chosen) > 0.83 > 0.82 > np.mean(fresh)
    chosen, fresh = experiments.measure_choice(right[:1], splits=100)
    assert abs(np.mean(chosen) - np.mean(fresh)) < 0.01


def test_candidates_are_the_epochs_of_each_rate():
    arrays = {name: value[:100] for name, value in experiments.load_arrays().items()}

    def make(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    right = experiments.collect_candidates(make, arrays, rates=(1e-3, 1e-2), epochs=3, images=100)
    assert right.shape == (6, 100) and right.dtype == torch.bool
    assert right[5].float().mean() > 0.3


# --- other processes ----------------------------------------------------------------------------------------


def give_back(images, factor):
    import os

    threads = os.environ["OMP_NUM_THREADS"]
    return {"sum": factor * float(np.sum(images)), "threads": threads, "keras": os.environ["KERAS_BACKEND"]}


def fail():
    raise ValueError("this is what went wrong")


def stop():
    import os

    os._exit(3)


def test_a_function_runs_elsewhere_with_what_it_names():
    got = elsewhere.run(give_back, needs=("numpy",), backend="torch", arrays={"images": np.ones(5)}, factor=2)
    assert got == {"sum": 10.0, "threads": "1", "keras": "torch"}


def test_an_error_elsewhere_is_told_here():
    with pytest.raises(elsewhere.Failed, match="ValueError: this is what went wrong"):
        elsewhere.run(fail, needs=())
    with pytest.raises(elsewhere.Failed, match="without a word"):
        elsewhere.run(stop, needs=())


def test_lines_are_counted_without_docstring_comments_and_blanks():
    assert elsewhere.count_lines(counted) == 3
    assert elsewhere.count_lines(counted, fail) == 5


def counted(x):
    """A docstring,
    of two lines.
    """
    # a comment

    y = x + 1  # one more
    return y


def test_the_fingerprint_is_of_the_code_and_not_of_its_layout():
    assert elsewhere.fingerprint("x = 1  # one") == elsewhere.fingerprint("x=1")
    assert elsewhere.fingerprint("x = 1") != elsewhere.fingerprint("x = 2")


def test_a_missing_framework_gives_the_recorded_result(monkeypatch, tmp_path, capsys):
    entry = {
        "code": elsewhere.fingerprint(elsewhere.read_source(fail)),
        "versions": {"keras": "3"},
        "value": 7,
    }
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps({"fail on tensorflow": entry, "stop on tensorflow": entry}))
    monkeypatch.setattr(elsewhere, "RECORDED", recorded)
    monkeypatch.setitem(sys.modules, "keras", None)
    assert "keras" not in elsewhere.versions()
    assert elsewhere.run(fail, needs=("keras",)) == 7
    said = capsys.readouterr().out
    assert "Keras is not installed here. Recorded with Keras 3." in said and elsewhere.INSTALL in said
    assert "changed code" not in said
    assert elsewhere.run(stop, needs=("keras",)) == 7
    assert "changed code" in capsys.readouterr().out
    with pytest.raises(elsewhere.Failed, match="nothing is recorded"):
        elsewhere.run(counted, needs=("keras",))


def test_each_function_of_the_notebook_is_recorded_as_it_stands_there():
    """Where this fails: VLMBOOK_KEEP=1 python -m tools execute appendix_a, with the extra installed."""
    recorded = elsewhere.load_recorded()
    definitions = cells.find_definitions()
    one = ("try_graphs", "try_missing_axis", "import_keras_alone", "try_keras")
    parts = {(name,): [name] for name in one}
    parts |= {
        (f"{kind}_model", f"{kind}_train", f"{kind}_predict"): [f"{kind}_train"]
        for kind in ("tensorflow", "keras")
    }
    for names, keys in parts.items():
        code = "\n\n".join(definitions[name] for name in names)
        entries = [entry for key, entry in recorded.items() if key.split(" on ")[0] in keys]
        assert entries, names
        assert all(entry["code"] == elsewhere.fingerprint(code) for entry in entries), names
    assert {key for key in recorded if key.startswith("keras_train")} == {
        "keras_train on tensorflow",
        "keras_train on torch",
    }


def test_a_script_is_run_as_a_script():
    assert elsewhere.run_script("print(__name__)", say="__main__") == (True, True)
    assert elsewhere.run_script("1 / 0", say="ZeroDivisionError") == (False, True)


def test_the_driver_imports_nothing_of_the_package():
    code = "import sys, runpy; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(elsewhere.DRIVER)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "vlmbook", "tensorflow", "keras"} & {name.partition(".")[0] for name in loaded}


# --- the whole notebook -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.notebook
def test_the_appendix_runs_without_tensorflow_and_keras(tmp_path):
    hidden = "import sys\nsys.modules |= {'tensorflow': None, 'keras': None}  # as if not installed"
    run_cells = [nbformat.v4.new_code_cell(source) for source in (hidden, *cells.CODE)]
    run = kernel.execute(nbformat.v4.new_notebook(cells=run_cells), folder=tmp_path)
    assert run.error == ""
    assert run.claims_held == run.claims > 20
