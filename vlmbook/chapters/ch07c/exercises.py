"""Exercises of chapter 7c, learning from little."""

import math

import torch
from torch.nn import functional as F

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: how many numbers ------------------------------------------------------------------------------------

WAYS, SHOTS, QUERIES, PEOPLE = 5, 3, 4, 30
IMAGES, EPISODES = WAYS * (SHOTS + QUERIES), math.comb(PEOPLE, WAYS)


def judge_episode(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two whole numbers are wanted: images in an episode, and choices of classes.")
    images, choices = (as_number(each, "each of the two") for each in answer)
    if images == WAYS * SHOTS:
        raise Wrong(
            "{images:g} counts the support alone. The queries belong to the episode too.", images=images
        )
    if images == WAYS * QUERIES:
        raise Wrong(
            "{images:g} counts the queries alone. The support belongs to the episode too.", images=images
        )
    if images != IMAGES:
        raise Wrong("{images:g} images? There are 5 classes with 3 + 4 images each.", images=images)
    if choices == math.perm(PEOPLE, WAYS):
        raise Wrong(
            "{choices:g} counts each order of the five people. Which people are chosen does not depend on "
            "the "
            "order.",
            choices=choices,
        )
    if choices == PEOPLE**WAYS:
        raise Wrong("{choices:g} allows the same person twice. The five are different.", choices=choices)
    if choices != EPISODES:
        raise Wrong("{choices:g} choices? Choose 5 of 30: math.comb.", choices=choices)


# --- 2: prototypes ------------------------------------------------------------------------------------------


def judge_nearest(answer):
    generator = torch.Generator().manual_seed(2)
    for ways, shots, queries in ((3, 1, 4), (4, 5, 7)):
        support = torch.randn(ways, shots, 6, generator=generator)
        query = torch.randn(queries, 6, generator=generator) + 0.3
        case = message("{ways} classes with {shots} shots", ways=ways, shots=shots)
        want = probabilities(support, query)
        got = as_tensor(answer(support.clone(), query.clone()), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        distances = torch.cdist(query, support.mean(1))
        each = torch.cdist(query, support.flatten(0, 1)).unflatten(1, (ways, shots))
        slips = {
            "For {case} the distances are not squared. The logits are minus the squares.": (
                -distances
            ).softmax(1),
            "For {case} the sign is wrong: the farthest prototype has the largest probability.": (
                distances.square()
            ).softmax(1),
            "For {case} the softmax runs over the queries. It runs over the classes.": (
                -distances.square()
            ).softmax(0),
            "For {case} you average distances. Average the embeddings first.": (
                -each.square().mean(2)
            ).softmax(1),
            "For {case} these are logits. Take the softmax.": -distances.square(),
        }
        for template, values in slips.items():
            if not torch.allclose(values, want, atol=1e-4) and torch.allclose(got, values, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def probabilities(support, query):
    return (-torch.cdist(query, support.mean(1)).square()).softmax(1)


# --- 3: the contrastive loss --------------------------------------------------------------------------------


def judge_contrastive(answer):
    generator = torch.Generator().manual_seed(3)
    for size, scale in ((3, 1.0), (5, 8.0)):
        images = F.normalize(torch.randn(size, 4, generator=generator))
        texts = F.normalize(torch.randn(size, 4, generator=generator))
        case = message("{size} pairs and scale {scale:g}", size=size, scale=scale)
        got = as_number(answer(images.clone(), texts.clone(), scale), case)
        want = contrastive(images, texts, scale)
        if math.isclose(got, want, abs_tol=1e-4):
            continue
        logits = scale * images @ texts.T
        target = torch.arange(size)
        one, other = F.cross_entropy(logits, target).item(), F.cross_entropy(logits.T, target).item()
        slips = {
            one: "For {case} only the images choose among the texts. The texts choose among the images too.",
            other: "For {case} only the texts choose among the images. The images choose among the texts "
            "too.",
            one + other: "For {case} the two losses are added. Take their mean.",
            contrastive(images, texts, 1.0): "For {case} the scale is missing.",
            size * want: "For {case} the sum over the pairs is taken. Take the mean.",
        }
        for value, template in slips.items():
            if math.isclose(got, value, abs_tol=1e-4):
                raise Wrong(template, case=case)
        raise Wrong("For {case} the loss is {want:.4f}, got {got:.4f}.", case=case, want=want, got=got)


def contrastive(images, texts, scale):
    logits = scale * images @ texts.T
    target = torch.arange(len(images))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)).item() / 2


# --- 4: train, change, measure ------------------------------------------------------------------------------

FEW, MANY = "12 people, 20 images", "60 people, 4 images"


def judge_trade(answer):
    if not isinstance(answer, dict) or set(answer) != {FEW, MANY}:
        raise Wrong(
            'A dict of two numbers is wanted, with the names "12 people, 20 images" and "60 people, 4 '
            'images".'
        )
    rates = {name: as_number(value, name) for name, value in answer.items()}
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise Wrong("{name}: {rate:g} is no accuracy. It lies between 0 and 1.", name=name, rate=rate)
        if rate < 0.4:
            raise Wrong(
                "{name}: {rate:.2f} is hardly better than guessing. Was the network trained, and in "
                "evaluation "
                "mode?",
                name=name,
                rate=rate,
            )
    if math.isclose(rates[FEW], rates[MANY]):
        raise Wrong("Both are {rate:.4f}. Was the same network measured twice?", rate=rates[FEW])
    if rates[FEW] > rates[MANY] + 0.02:  # episodes differ by less
        raise Wrong("Twelve people are better than sixty? Check which is which, and the number of steps.")


EXERCISES = {
    "1": Exercise(
        judge_episode,
        hints=(
            "An episode holds a support and queries, of each class.",
            "5 · (3 + 4) images. In how many ways can 5 of 30 people be chosen, if the order does not "
            "matter?",
            "math.comb(30, 5)",
        ),
        solution=(IMAGES, EPISODES),
        why="Thirty people give 142,506 different tasks, before a single image is chosen. So the network "
        "sees "
        "a new task in each step, and learns to solve new tasks.",
    ),
    "2": Exercise(
        judge_nearest,
        hints=(
            "First the prototypes: support.mean(1) is (W, D).",
            "torch.cdist(query, prototypes) holds the distances (N, W).",
            "(-torch.cdist(query, support.mean(1)).square()).softmax(1)",
        ),
        solution=probabilities,
        why="With squared distances the classifier is linear in the query: -|q - c|² = 2 q·c - |c|² - |q|², "
        "and |q|² is the same for all classes.",
    ),
    "3": Exercise(
        judge_contrastive,
        hints=(
            "The logits are scale · images @ texts.T. The right answer of row i is column i.",
            "F.cross_entropy(logits, torch.arange(B)) is one half; the transposed logits give the other "
            "half.",
            "The mean of both, as a float.",
        ),
        solution=contrastive,
        why="Each image is the right answer of one text, and each text of one image. So the loss is "
        "symmetric.",
    ),
    "4": Exercise(
        judge_trade,
        hints=(
            "data.avatars(12, 20, size=24, seed=1) and data.avatars(60, 4, size=24, seed=1) hold 240 "
            "images each.",
            "shots + queries may not be more than the images of a person: take shots=2, queries=2 for both.",
            "experiments.train_prototypes(images, labels, steps=200, ways=12, shots=2, queries=2), then "
            "measure_episodes with the new people and one shot; take the mean.",
        ),
        solution={FEW: 0.87, MANY: 0.91},  # measured with seed 0
        why="A new person shows the network a new difference between people. Another image of the same "
        "person "
        "shows it less.",
    ),
}
