"""Chapter 4a: the game as a graph, its best answer, its orbits, a ring of eight, and walks between two
latents.
"""

import math

import torch
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.gan import optimal_discriminator

GAME = (("z", "G"), ("G", "x_g"), ("x_g", "D"), ("x_r", "D"), ("D", "V"))
GRADIENTS = (("V", "D"), ("V", "G"))
PLACES = {"z": (0, 0), "G": (1, 0), "x_g": (2, 0), "x_r": (2, 1), "D": (3, 0.5), "V": (4, 0.5)}
LABELS = {"z": "z, noise", "G": "G", "x_g": "G(z)", "x_r": "x, real", "D": "D", "V": "V(D, G)"}


def draw_game(figure):
    """What flows where: black the values, orange the gradients, which climb for D and descend for G."""
    axes = figure.subplots()
    for name, (x, y) in PLACES.items():
        network = name in "GD"
        axes.text(
            x,
            y,
            LABELS[name],
            ha="center",
            va="center",
            fontsize=11,
            zorder=3,
            color="white" if network else "black",
            bbox=dict(
                boxstyle="round,pad=0.5", edgecolor=plot.BLUE, facecolor=plot.BLUE if network else "white"
            ),
        )
    for start, end in GAME:
        axes.annotate(
            "",
            PLACES[end],
            PLACES[start],
            arrowprops=dict(
                arrowstyle="-|>", color="black", linewidth=1.5, shrinkA=_reach(start), shrinkB=_reach(end)
            ),
        )
    for (start, end), bend, sign, where in zip(
        GRADIENTS, (0.45, -0.35), ("up", "down"), ((3.5, 0.98), (2.5, -0.72)), strict=True
    ):
        axes.annotate(
            "",
            PLACES[end],
            PLACES[start],
            arrowprops=dict(
                arrowstyle="-|>",
                color=plot.ORANGE,
                linewidth=2,
                shrinkA=22,
                shrinkB=18,
                connectionstyle=f"arc3,rad={bend}",
            ),
        )
        axes.text(*where, f"{end} goes {sign} V", ha="center", va="center", color=plot.ORANGE)
    axes.set(xlim=(-0.5, 4.6), ylim=(-0.9, 1.4))
    axes.axis("off")


def _reach(node):
    """str -> points from the middle of a node's box to where its arrows end."""
    return 14 + 3.2 * len(LABELS[node])


def value_of_two_normals(shift, spread):
    """-> x, p, g, D*, V: p = N(0, 1), g = N(shift, spread²), the value by the trapezoidal rule, in nats."""
    x = torch.linspace(-8, 10, 3601, dtype=torch.float64)
    log_p, log_g = (
        torch.distributions.Normal(mean, std).log_prob(x)
        for mean, std in ((torch.zeros_like(x), 1.0), (torch.full_like(x, shift), spread))
    )
    p, g, logit = log_p.exp(), log_g.exp(), log_p - log_g
    value = torch.trapezoid(p * F.logsigmoid(logit) + g * F.logsigmoid(-logit), x).item()
    return x, p, g, optimal_discriminator(p, g), value


def draw_optimal(figure, shift=1.5, spread=1.0):
    """The data's density and the generator's, and beside them the best discriminator and the value of the
    game.
    """
    x, p, g, best, value = value_of_two_normals(shift, spread)
    densities, answer = figure.subplots(1, 2)
    densities.fill_between(x, p, color=plot.BLUE, alpha=0.5, label="data p")
    densities.fill_between(x, g, color=plot.ORANGE, alpha=0.5, label="generator g")
    densities.set(
        xlim=(-4, 6),
        ylim=(0, max(0.5, 0.45 / spread)),
        xlabel="x",
        ylabel="density",
        title="what is real, what is made",
    )
    densities.legend(loc="upper right")
    answer.plot(x, best, color=plot.GREEN)
    answer.axhline(0.5, color=plot.GREY, linewidth=1)
    answer.set(
        xlim=(-4, 6),
        ylim=(-0.03, 1.03),
        xlabel="x",
        ylabel="D*(x)",
        title=f"V(D*, G) = {value:.3f}, JSD = {abs(value + math.log(4)) / 2:.3f} nats",
    )


def dirac_orbit(order="simultaneous", loss="minimax", lr=0.1, gamma=0.0, steps=500):
    """-> (steps + 1, 2) of θ and ψ from (1, 0): data δ(0), generator δ(θ), D(x) = σ(ψx) [Mescheder et al.
    2018].

    ψ descends the discriminator's loss plus γ/2·ψ², which is R1 here; θ descends log(1 − D(θ)), or −log D(θ)
    with the loss "non-saturating". In the order "alternating" θ moves after ψ did. Raises ValueError for
    other orders or losses.
    """
    if order not in ("simultaneous", "alternating"):
        raise ValueError(f'dirac_orbit wants the order "simultaneous" or "alternating", got {order!r}')
    if loss not in ("minimax", "non-saturating"):
        raise ValueError(f'dirac_orbit wants the loss "minimax" or "non-saturating", got {loss!r}')
    sign = 1 if loss == "minimax" else -1
    theta, psi, path = 1.0, 0.0, [(1.0, 0.0)]
    for _ in range(steps):
        after = psi - lr * (theta / (1 + math.exp(-psi * theta)) + gamma * psi)
        seen = after if order == "alternating" else psi
        theta, psi = theta + lr * seen / (1 + math.exp(-sign * seen * theta)), after
        path.append((theta, psi))
    return torch.tensor(path, dtype=torch.float64)


def draw_orbit(figure, order="simultaneous", loss="minimax", lr=0.1, gamma=0.0):
    """Two players of one number each: their path in the plane, and how far they are from where they should
    be.
    """
    path = dirac_orbit(order, loss, lr, gamma)
    away = path.norm(dim=1)
    plane, distance = figure.subplots(1, 2, width_ratios=(1, 1.4))
    plane.plot(*path.T, color=plot.BLUE, linewidth=1)
    plane.plot(*path[0], "o", color=plot.GREY)
    plane.plot(*path[-1], "o", color=plot.ORANGE)
    plane.plot(0, 0, "+", color="black", markersize=10)
    limit = 1.15 * path.abs().max().item()
    plane.set(
        xlabel="θ, the generator", ylabel="ψ, the discriminator", xlim=(-limit, limit), ylim=(-limit, limit)
    )
    distance.plot(away, color=plot.BLUE)
    distance.set(
        xlabel="step",
        ylabel="distance from (0, 0)",
        ylim=(0, 1.1 * away.max().item()),
        title=f"1.00 at the start, {away[-1]:.2f} after {len(path) - 1} steps",
    )


def draw_ring(figure, real, runs, run, moment=0):
    """One moment of a training in two dimensions, and how many of eight heaps were found until then.

    real: (M, 2); runs: {name: {"steps": (S,), "points": (S, n, 2), "logits": (S, k, k) over [−3, 3]², rows
    along y, "found": (S,)}}; a moment past the end of a run is its last.
    """
    taken = runs[run]
    moment = min(moment, len(taken["steps"]) - 1)
    plane, curve = figure.subplots(1, 2, width_ratios=(1, 1.1))
    says = torch.as_tensor(taken["logits"][moment]).sigmoid().numpy()
    most = max(0.01, abs(says - 0.5).max().item())
    shown = plane.imshow(
        says, extent=(-3, 3, -3, 3), origin="lower", cmap="RdBu", vmin=0.5 - most, vmax=0.5 + most, alpha=0.55
    )
    figure.colorbar(
        shown,
        ax=plane,
        label="D says: real",
        fraction=0.046,
        format="%.2f",
        ticks=(0.5 - most, 0.5, 0.5 + most),
    )
    plane.plot(*torch.as_tensor(real).T, ".", color="black", markersize=1.5)
    plane.plot(*torch.as_tensor(taken["points"][moment]).T, ".", color=plot.ORANGE, markersize=3)
    plane.set(
        xlim=(-3, 3),
        ylim=(-3, 3),
        xticks=(),
        yticks=(),
        aspect="equal",
        title=f"step {taken['steps'][moment]}: {taken['found'][moment]} of 8",
    )
    curve.step(taken["steps"], taken["found"], where="post", color=plot.BLUE)
    curve.plot([taken["steps"][moment]], [taken["found"][moment]], "o", color=plot.ORANGE)
    curve.set(xlabel="step", ylabel="heaps found", ylim=(-0.3, 8.3), yticks=range(0, 9, 2), title=run)


def between(a, b, place, path="arc"):
    """(Z,), (Z,), number in [0, 1] -> (Z,): a point of the way from a to b, straight or along an arc
    [Shoemake 1985].

    The straight way leads past latents that are shorter than a normal one is; along the arc the length goes
    evenly.
    """
    if path == "straight":
        return (1 - place) * a + place * b
    if path != "arc":
        raise ValueError(f'between wants the path "arc" or "straight", got {path!r}')
    cosine = torch.dot(a / a.norm(), b / b.norm()).clamp(-1, 1)
    angle = cosine.arccos()
    if angle < 1e-4:
        return (1 - place) * a + place * b
    along = (((1 - place) * angle).sin() * a / a.norm() + (place * angle).sin() * b / b.norm()) / angle.sin()
    return along * ((1 - place) * a.norm() + place * b.norm())


@torch.no_grad()
def draw_walk(figure, generator, latents, start=0, end=1, place=0.5, path="arc", steps=9):
    """From one latent to another: a generator's images on the way, under them the mixture of the two
    pictures.

    generator: in evaluation mode, latents: (n, Z).
    """
    a, b = latents[start], latents[end]
    ways = torch.linspace(0, 1, steps).tolist()
    here, *way = generator(torch.stack([between(a, b, t, path) for t in (place, *ways)]))
    mixed = [way[0] + t * (way[-1] - way[0]) for t in ways]
    chosen, strips = figure.subplots(1, 2, width_ratios=(1, 4.2))
    plot.image(chosen, here, f"at {place:.2f}")
    gap = torch.ones(way[0].shape[0], max(1, way[0].shape[1] // 8), steps * way[0].shape[2])
    plot.image(
        strips,
        torch.cat([torch.cat(way, 2), gap, torch.cat(mixed, 2)], 1),
        f"above: G on the way from {start} to {end}; below: two pictures mixed",
    )
    marked = (steps * here.shape[2] - here.shape[2]) * place + here.shape[2] / 2 - 0.5
    strips.plot([marked], [here.shape[1] + gap.shape[1] / 2 - 0.5], "^", color=plot.ORANGE, clip_on=False)


def draw_neighbours(figure, made, held_out, images, shown=6):
    """(N, C, H, W), (M, C, H, W), (K, C, H, W) -> (N,), (M,): the distances of both to the nearest of
    `images`.

    Above, the first few of each over their nearest training images; below, all the distances.
    """
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    axes, found = below.subplots(), []
    for panel, pictures, name, colour in zip(
        above.subplots(1, 2),
        (made, held_out),
        ("generated", "held out, real"),
        (plot.ORANGE, plot.BLUE),
        strict=True,
    ):
        distance, place = nearest(pictures, images)
        rows = _strip(pictures[:shown]), _strip(images[place[:shown]])
        gap = torch.ones(rows[0].shape[0], max(1, rows[0].shape[1] // 8), rows[0].shape[2])
        plot.image(panel, torch.cat([rows[0], gap, rows[1]], 1), name)
        panel.set_xlabel("over the nearest that was learned from")
        found.append(distance)
        axes.hist(distance.tolist(), bins=40, density=True, color=colour, alpha=0.5, label=name)
    axes.set(xlabel="distance to the nearest training image", ylabel="density", xlim=(0, None))
    axes.legend(loc="upper left")
    return tuple(found)


def _strip(images):
    """(n, C, H, W) -> (C, H, W'): side by side, with white between."""
    gap = torch.ones(*images.shape[1:3], max(1, images.shape[3] // 8))
    parts = [part for image in images for part in (image, gap)]
    return torch.cat(parts[:-1], 2)


def nearest(x, images):
    """(N, C, H, W), (K, C, H, W) -> (N,), (N,): how far the nearest of `images` is, and its number."""
    distance, place = torch.cdist(x.flatten(1), images.flatten(1)).min(1)
    return distance, place


def draw_training(figure, curve, scores, window=50):
    """Steps of (D's loss, G's loss), {step: Fréchet distance} -> (S, 2): means of the losses over `window`
    steps.
    """
    losses, distance = figure.subplots(1, 2)
    smooth = torch.tensor(curve).unfold(0, min(window, len(curve)), 1).mean(2)
    steps = torch.arange(len(smooth)) + min(window, len(curve)) / 2
    for name, each, colour in zip(
        ("discriminator", "generator"), smooth.T, (plot.BLUE, plot.ORANGE), strict=True
    ):
        losses.plot(steps, each, label=name, color=colour, linewidth=1.2)
    losses.axhline(math.log(4), color=plot.GREY, linewidth=1)
    losses.set(xlabel="step", ylabel="loss, nats", ylim=(0, None), title="who is ahead")
    losses.legend(loc="best")
    distance.semilogy([*scores], [*scores.values()], "o-", color=plot.GREEN)
    distance.set(xlabel="step", ylabel="Fréchet distance, log", title="how far from validation images")
    return smooth


def draw_found(figure, found):
    """{name: (seeds,) heaps found} -> a dot and a bar each: mean ± standard deviation, also written out."""
    axes = figure.subplots()
    mean, std = (
        torch.stack([f(torch.as_tensor(each).float()) for each in found.values()])
        for f in (torch.mean, torch.std)
    )
    plot.intervals(
        axes, list(found), mean, mean - std, mean + std, "heaps found, of 8: mean ± std over seeds"
    )
    for row, (middle, spread) in enumerate(zip(mean, std, strict=True)):
        axes.text(8.9, len(found) - 1 - row, f"{middle:.1f} ± {spread:.1f}", va="center")
    axes.set(xlim=(-0.3, 10.2), xticks=range(9))
