"""The drawings of chapter 4b at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch04b import figures
from vlmbook.chapters.ch04b.experiments import toy_bound
from vlmbook.vae import VAE, mean_image


def images(n, size=8, seed=0):
    return torch.randint(17, (n, 1, size, size), generator=torch.Generator().manual_seed(seed)) / 16


def plane(n=60):
    """-> a VAE of two latents, codes that lie on the plane, labels of ten classes."""
    torch.manual_seed(0)
    codes = torch.randn(n, 2)
    return VAE(8, levels=17, latent=2, width=4), codes, torch.arange(n) % 10


@pytest.mark.parametrize("values", every_end({"mu": (-2.0, 0.0, 2.0), "sigma": (0.2, 1.0, 2.0)}), ids=str)
def test_bound(values):
    figure = drawn(figures.draw_bound, (7, 2.7), **values)
    _, elbo, gap = toy_bound(values.get("mu", 0.0), values.get("sigma", 1.0))
    bars = figure.axes[1]
    assert bars.get_title(loc="left") == f"gap {gap:.2f} nats"
    assert bars.patches[1].get_y() + bars.patches[1].get_height() == pytest.approx(elbo, abs=1e-5)
    highest = max(line.get_ydata().max() for line in figure.axes[0].lines)
    assert bars.get_ylim()[0] < elbo and (highest < 1.35 or values.get("sigma") == 0.2)


def test_gradients():
    drawn(
        figures.draw_gradients,
        (7, 2.4),
        sizes=[1, 2, 4, 64],
        variances={
            "score function": [5, 10, 90, 9e3],
            "centred": [2, 4, 9, 80],
            "reparameterised": [0.2] * 4,
        },
    )


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (10, 7)], ids=str)
@pytest.mark.parametrize("variational", [True, False])
def test_the_network_is_labelled_with_the_shapes_that_it_has(size, variational):
    figure = drawn(figures.draw_network, (7, 2.2), size=size, variational=variational)
    written = [text.get_text() for text in figure.axes[0].texts]
    net, x = VAE(size, levels=17, latent=16, width=16), torch.rand(1, 1, *size)
    for layer in net.encoder[:4]:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            assert "×".join(map(str, x.shape[1:])) in written
    z = torch.randn(1, 16)
    for layer in net.decoder[:-1]:
        z = layer(z)
        if z.ndim == 4:
            assert "×".join(map(str, z.shape[1:])) in written
    assert any(f"17×{size[0]}×{size[1]}" in text for text in written)
    assert ("KL" in written) == variational and any("ε" in text for text in written) == variational


def test_collapse():
    progress = [(1.0, 0.5, True), (0.0, 0.1, True), (2.0, 0.4, False), (4.0, 0.6, False)]
    figure = drawn(figures.draw_collapse, (7, 2), progress=progress, change=2)
    first, second = figure.axes[0].lines[:2]
    assert first.get_ydata() == pytest.approx([1.0, 1e-7, 2.0, 4.0])
    assert second.get_ydata() == pytest.approx([0.5, 0.1, 0.4, 0.6])


def test_edges():
    edges = (torch.arange(16) >= torch.tensor([[3], [8], [12], [5]])).float()
    drawn(
        figures.draw_edges,
        (7, 1.9),
        edges=edges,
        predictions={"best by L2": edges.mean(0), "best by L1": edges[1]},
    )


def test_learning_curves():
    drawn(
        figures.draw_curves,
        (7, 2.3),
        curves=[[3.0, 2.2, 2.0], [3.1, 2.3, 2.1], [2.9, 2.2, 1.9]],
        baselines={"histogram": 2.4, "Gaussian": 2.3},
    )


def test_rows_stand_side_by_side():
    rows = {"held out": images(5), "again": images(5, seed=1)}
    shown = pictures(drawn(figures.draw_rows, (7, 1.5), rows=rows))
    for each, x in zip(shown, rows.values(), strict=True):
        assert each.shape == (8, 5 * 8 + 4)
        assert torch.equal(each[:, 9:17].float(), x[1, 0]) and (each[:, 8] == 1).all()


def test_plane_shows_the_image_decoded_from_each_z():
    net, codes, labels = plane()
    values = {"codes": codes, "labels": labels, "side": 5, "reach": 2.0, "zoom": 1}
    figure = drawn(figures.draw_plane, (7, 3.6), net=net, **values)
    sheet = pictures(figure)[0].float()
    for row, column, z in (
        (0, 0, (-2.0, 2.0)),
        (0, 4, (2.0, 2.0)),
        (3, 1, (-1.0, -1.0)),
        (4, 0, (-2.0, -2.0)),
    ):
        with torch.no_grad():
            want = mean_image(net.decode(torch.tensor([z])))[0, 0]
        torch.testing.assert_close(sheet[9 * row : 9 * row + 8, 9 * column : 9 * column + 8], want)


def test_enlarged_images_keep_their_means():
    x = torch.full((2, 1, 8, 8), 0.3)
    assert torch.equal(figures.enlarge(x, 1), x)
    torch.testing.assert_close(figures.enlarge(x, 4), torch.full((2, 1, 32, 32), 0.3))
    large = figures.enlarge(images(3), 4)
    assert large.shape == (3, 1, 32, 32) and 0 <= large.min() < large.max() <= 1


@pytest.mark.parametrize("values", every_end({"z1": (-3.0, 0.0, 3.0), "z2": (-3.0, 0.0, 3.0)}), ids=str)
def test_pad(values):
    net, codes, labels = plane()
    figure = drawn(figures.draw_pad, (7, 2.9), net=net, codes=codes, labels=labels, **values)
    z = torch.tensor([[values.get("z1", 0.0), values.get("z2", 0.0)]])
    with torch.no_grad():
        logits = net.decode(z)
    mean, spread = pictures(figure)
    torch.testing.assert_close(mean.float(), mean_image(logits)[0, 0])
    levels = torch.arange(17) / 16
    p = logits.softmax(1)[0, :, 0].detach()
    variance = torch.einsum("lhw,l->hw", p, levels**2) - torch.einsum("lhw,l->hw", p, levels) ** 2
    torch.testing.assert_close(spread.float(), (2 * variance.sqrt()).clamp(max=1), rtol=1e-3, atol=1e-3)
    nearest = (codes - z).norm(dim=1).argmin()
    assert figure.axes[1].get_xlabel() == f"nearest image: {labels[nearest]}"
    cross = figure.axes[0].lines[0]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == tuple(z[0].tolist())


def test_the_price_of_beta():
    sweep = {
        0: [[1.57, 1.6, 16, 9], [1.6, 1.7, 15, 8]],
        1: [[1.7, 0.3, 11, 7], [1.75, 0.28, 12, 6]],
        16: [[2.45, 0.0, 0, 80], [2.46, 0.0, 1, 81]],
    }
    figure = drawn(figures.draw_trade, (7, 2.6), sweep={beta: torch.tensor(x) for beta, x in sweep.items()})
    assert [bar.get_height() for bar in figure.axes[1].patches] == [15.5, 11.5, 0.5]


@pytest.mark.parametrize("beta", [0, 0.2, 1, 4, 16])
def test_beta(beta):
    shown = {b: (images(6, seed=i), images(6, seed=10 + i)) for i, b in enumerate((0, 0.2, 1, 4, 16))}
    figure = drawn(figures.draw_beta, (7, 2.1), images=images(6, seed=99), shown=shown, beta=beta)
    for each, x in zip(pictures(figure)[1:], shown[beta], strict=True):
        assert torch.equal(each.float(), figures.side_by_side(x))
    assert figure.axes[1].get_ylabel() == f"reconstructed, β = {beta:g}"


def test_foreign():
    examples = {"digits": images(20), "blank": torch.zeros(9, 1, 8, 8), "bars": images(4, seed=2)}
    bits = {
        "digits": torch.linspace(1.5, 2.5, 20),
        "blank": torch.full((9,), 1.8),
        "bars": torch.linspace(0.8, 16, 4),
    }
    figure = drawn(figures.draw_foreign, (7, 3.2), examples=examples, bits=bits, known="digits")
    lines = figure.axes[1].lines
    for line, each in zip(lines, bits.values(), strict=True):
        assert np.array_equal(line.get_xdata(), each)
