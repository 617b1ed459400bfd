"""Chapter 4d: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch

from tests.support.forged import AgreeableNumber, AgreeableTensor
from vlmbook.chapters.ch04d.exercises import heun, image_from_noise


def column(t):
    return t[:, None, None, None]


def euler(velocity, x, steps):
    for step in range(steps):
        x = x + velocity(x, torch.full((len(x),), step / steps)) / steps
    return x


def midpoint(velocity, x, steps):
    for step in range(steps):
        t = torch.full((len(x),), step / steps)
        middle = x + velocity(x, t) / steps / 2
        last = step == steps - 1
        x = x + (velocity(x, t) if last else velocity(middle, t + 0.5 / steps)) / steps
    return x


def heun_to_the_end(velocity, x, steps):
    for step in range(steps):
        t = torch.full((len(x),), step / steps)
        v = velocity(x, t)
        x = x + (v + velocity(x + v / steps, t + 1 / steps)) / 2 / steps
    return x


def heun_with(combine):
    """combine(x, v, ahead, velocity, t, after, dt) -> x after a step; the last step is Euler's."""

    def solve(velocity, x, steps):
        for step in range(steps):
            t = torch.full((len(x),), step / steps)
            v = velocity(x, t)
            ahead = x + v / steps
            x = ahead if step == steps - 1 else combine(x, v, ahead, velocity, t, t + 1 / steps, 1 / steps)
        return x

    return solve


def from_the_end(x, v, ahead, velocity, t, after, dt):
    return ahead + dt * (v + velocity(ahead, after)) / 2


def at_the_old_time(x, v, ahead, velocity, t, after, dt):
    return x + dt * (v + velocity(ahead, t)) / 2


def with_the_sum(x, v, ahead, velocity, t, after, dt):
    return x + dt * (v + velocity(ahead, after))


def fits(uniform=(0.92, 0.93, 0.91), sigmoid=(0.96, 0.97, 0.95), conclusion="sigmoid"):
    return {"uniform": list(uniform), "sigmoid": list(sigmoid), "conclusion": conclusion}


WRONG_ANSWERS = [
    ("ch04d.1", 2.5, "image 2 alone"),
    ("ch04d.1", -1.5, "image 0 alone"),
    ("ch04d.1", 0.5, "equally probable"),
    ("ch04d.1", 0.712, "remaining time 1 − t = 0.5."),
    ("ch04d.1", 1.462, "expected image"),
    ("ch04d.1", -0.424, "exchanged"),
    ("ch04d.1", 0.949, "not x"),
    ("ch04d.1", 0.01, "Compare the noises"),
    ("ch04d.1", 7, "Which noise leads"),
    ("ch04d.1", float("nan"), "NaN"),
    ("ch04d.1", "1.42", "one number is wanted"),
    ("ch04d.1", AgreeableNumber(), "one number is wanted"),
    ("ch04d.2", lambda noise, x, t: x - (1 - column(t)) * noise, "Divide by t"),
    ("ch04d.2", lambda noise, x, t: (x - noise) / column(t), "This is the velocity"),
    ("ch04d.2", lambda noise, x, t: (x - column(t) * noise) / column(t), "weight 1 − t"),
    ("ch04d.2", lambda noise, x, t: (x - (1 - column(t)) * noise) / (1 - column(t)), "divide by t"),
    ("ch04d.2", lambda noise, x, t: (x + (1 - column(t)) * noise) / column(t), "you added it"),
    ("ch04d.2", lambda noise, x, t: (x - column(t) * noise) / (1 - column(t)), "t = 1 as the noise"),
    ("ch04d.2", lambda noise, x, t: x, "values are off"),
    ("ch04d.2", lambda noise, x, t: print(end=""), "return"),
    ("ch04d.2", lambda noise, x, t: x.as_subclass(AgreeableTensor), "values are off"),
    ("ch04d.2", lambda noise, x, t: image_from_noise(noise, x, t)[:1], "shape"),
    ("ch04d.3", euler, "Euler's steps"),
    ("ch04d.3", midpoint, "midpoint"),
    ("ch04d.3", heun_to_the_end, "asked for t = 1"),
    ("ch04d.3", heun_with(from_the_end), "starts at x"),
    ("ch04d.3", heun_with(at_the_old_time), "time after the step"),
    ("ch04d.3", heun_with(with_the_sum), "not their sum"),
    ("ch04d.3", lambda velocity, x, steps: velocity(x, 0.0), "one time for each row"),
    ("ch04d.3", lambda velocity, x, steps: heun(velocity, x, steps + 1), "values are off"),
    ("ch04d.3", lambda velocity, x, steps: x, "values are off"),
    ("ch04d.4", [0.9, 0.91, 0.92], "A dict is wanted"),
    ("ch04d.4", {"uniform": [0.9], "sigmoid": [0.9]}, "A dict is wanted"),
    ("ch04d.4", fits(uniform=(0.92, 0.93)), "three numbers"),
    ("ch04d.4", fits(uniform=(0.92, 0.92, 0.93)), "was the seed changed"),
    ("ch04d.4", fits(uniform=(0.92, 1.2, 0.93)), "at most 1"),
    ("ch04d.4", fits(uniform=(0.92, 0.1, 0.93)), "Was it trained"),
    ("ch04d.4", fits(uniform=(0.92, "x", 0.93)), "one number is wanted"),
    ("ch04d.4", fits(conclusion="yes"), "The conclusion is"),
    ("ch04d.4", fits(conclusion="no difference"), 'follows "sigmoid"'),
    ("ch04d.4", fits(sigmoid=(0.925, 0.935, 0.915)), 'follows "no difference"'),
    ("ch04d.4", fits(uniform=(0.985, 0.99, 0.995)), 'follows "uniform"'),
]
