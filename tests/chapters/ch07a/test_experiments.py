"""What chapter 7a computes: small files of 8 bits, zeros that stay, fair comparisons, frames and shots."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from vlmbook import data
from vlmbook.chapters.ch06a.experiments import export_network, open_onnx
from vlmbook.chapters.ch07a import experiments
from vlmbook.compression import prune_magnitude, sparsity
from vlmbook.resnet import small_resnet


@pytest.fixture(scope="module")
def digits():
    return experiments.read_digits()


@pytest.fixture(scope="module")
def network(digits):
    return experiments.train_classifier(*digits[:2], depth=8, epochs=2)


def test_a_trained_network_knows_most_digits_and_the_global_generator_is_left_alone(digits):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    network = experiments.train_classifier(*digits[:2], depth=8, epochs=2)
    assert experiments.measure_accuracy(network, *digits[2:]) > 0.8
    assert torch.equal(state, torch.get_rng_state())


def test_zeros_stay_zeros_while_the_rest_is_trained(digits, network):
    pruned = prune_magnitude(network, 0.7)
    before = {name: (weight == 0).clone() for name, weight in pruned.named_parameters()}
    experiments.train_further(pruned, *(each[:320] for each in digits[:2]))
    assert sparsity(pruned) >= 0.7 - 1e-4
    assert all((dict(pruned.named_parameters())[name][zero] == 0).all() for name, zero in before.items())
    assert all(
        not weight._backward_hooks for weight in pruned.parameters() if weight._backward_hooks is not None
    )


def test_new_statistics_change_no_weight_and_are_those_of_the_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    x = 3 + 2 * torch.randn(256, 1, 4, 4)
    again = experiments.measure_statistics_again(model, x)
    assert again[0].running_mean.item() == pytest.approx(x.mean().item(), abs=1e-3)
    assert model[0].running_mean.item() == 0
    assert again[0].momentum == 0.1 and not again.training


def test_a_file_of_8_bits_is_smaller_and_nearly_the_same(network, digits, tmp_path):
    path, small = Path(tmp_path, "a.onnx"), Path(tmp_path, "b.onnx")
    export_network(network, digits[0][:2], path)
    experiments.quantise_file(path, digits[0][:64], small)
    assert small.stat().st_size < path.stat().st_size / 2
    x = digits[2][:64]
    with torch.no_grad():
        row = experiments.measure_agreement(network(x), open_onnx(small)(x))
    assert row["share"] >= 60 / 64 and row["low"] < row["share"] and row["error"] > 0
    model = onnx.load(small)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_weights_of_7_bits_cannot_exceed_a_sum_of_16_bits(network, digits, tmp_path):
    path = Path(tmp_path, "a.onnx")
    export_network(network, digits[0][:2], path)
    largest = {}
    for whole_range in (False, True):
        small = Path(tmp_path, f"{whole_range}.onnx")
        experiments.quantise_file(path, digits[0][:32], small, whole_range=whole_range)
        weights = [
            onnx.numpy_helper.to_array(each)
            for each in onnx.load(small).graph.initializer
            if each.data_type == onnx.TensorProto.INT8
        ]
        largest[whole_range] = max(abs(values.astype(int)).max() for values in weights)
    assert 2 * 255 * largest[False] < 2**15 and largest[True] == 127


def test_what_is_left_out_of_a_file_changes_no_number(network, digits, tmp_path):
    """The zero points of weights that are all 0 go; those of the activations, which are not, stay."""
    path, whole, small = (Path(tmp_path, name) for name in ("a.onnx", "b.onnx", "c.onnx"))
    export_network(network, digits[0][:2], path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "drop_notes", lambda path: None)
        experiments.quantise_file(path, digits[0][:32], whole)
    small.write_bytes(whole.read_bytes())
    experiments.drop_notes(small)
    assert small.stat().st_size < whole.stat().st_size
    x = digits[2][:64]
    assert torch.equal(open_onnx(small)(x), open_onnx(whole)(x))


def test_an_image_is_sure_where_the_first_class_leads():
    logits = torch.tensor([[0.7, 0.3, 1e-9], [0.54, 0.46, 1e-9], [1e-9, 0.6, 0.4]]).log()
    assert experiments.find_sure(logits).tolist() == [True, False, True]
    row = experiments.measure_agreement(logits, logits.flip(1))
    assert row["share"] == pytest.approx(1 / 3)


def test_crops_are_what_the_network_takes_and_the_seed_decides():
    a, b = experiments.cut_crops(1), experiments.cut_crops(1)
    assert a.shape == (len(data.photo_names()), 3, 224, 224)
    assert torch.equal(a, b) and not torch.equal(a, experiments.cut_crops(1, seed=1))


def test_a_camera_moves_from_one_end_to_the_other():
    photograph = torch.rand(3, 40, 90)
    frames = experiments.film(photograph, 5, side=30)
    assert all(frame.shape == (3, 30, 30) for frame in frames)
    assert torch.equal(frames[0], photograph[:, 5:35, :30]) and torch.equal(
        frames[-1], photograph[:, 5:35, 60:]
    )
    times = experiments.time_frames(lambda frame: frame, lambda x: x, frames)
    assert [len(values) for values in times.values()] == [5, 5]


def test_every_backbone_gets_the_same_shots_and_new_digits_only(digits, network):
    same = experiments.measure_budgets({"a": network, "b": network}, digits, shots=(1, 3), draws=3)
    assert same["a"] == same["b"]
    assert set(same["a"]) == {1, 3} and all(len(values) == 3 for values in same["a"].values())
    assert max(same["a"][3]) > 0.3


def test_pruned_networks_are_compared_on_all_counts(digits, network):
    rivals = {"all": network, "zeros": prune_magnitude(network, 0.9)}
    table = experiments.compare_pruned(rivals, digits[2][:8], digits[3][:8], repeats=1)
    assert table["all"]["macs"] == table["zeros"]["macs"] and table["all"]["dense"] == table["zeros"]["dense"]
    assert table["zeros"]["sparse"] < table["all"]["sparse"] / 4


def test_every_model_of_the_table_is_counted_without_memory():
    make, shape = experiments.MODELS["ResNet-20 (3b), 32×32"]
    assert isinstance(make(), type(small_resnet(20))) and shape == (3, 32, 32)
    sizes = experiments.count_sizes()
    assert set(experiments.CITED) | {name for name, *_ in experiments.COUNTED} < set(sizes)
