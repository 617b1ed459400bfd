"""Exercises of chapter 4d, flow matching."""

import math
import statistics

import torch

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: the mean velocity of two images ---------------------------------------------------------------------

NEAR, FAR = math.exp(-(0.5**2) / 2), math.exp(-(1.5**2) / 2)  # densities of the noises −0.5 and 1.5
SHARE = NEAR / (NEAR + FAR)  # the probability of the image 2
VELOCITY = (2 * SHARE - 0.75) / 0.5


def judge_velocity(answer):
    got = as_number(answer, "velocity_there")
    if abs(got - VELOCITY) < 0.006:
        return
    by_distance = 1 / (1 + math.exp((1.25**2 - 0.75**2) / 2))  # of x to the images, not of the noises
    slips = [
        (2.5, "This is the velocity towards the image 2 alone. The image 0 is possible as well."),
        (-1.5, "This is the velocity towards the image 0 alone. The image 2 is possible as well."),
        (0.5, "This takes both images as equally probable. Compare the densities of their noises."),
        (0.5 * VELOCITY, "Divide by the remaining time 1 − t = 0.5."),
        (2 * SHARE, "This is the expected image. The velocity goes from x to it, in the time 1 − t."),
        ((2 * (1 - SHARE) - 0.75) / 0.5, "Both probabilities are exchanged: the noise −0.5 leads to 2."),
        (
            (2 * by_distance - 0.75) / 0.5,
            "Compare the noises (x − t · image)/(1 − t), not the images with x.",
        ),
        ((2 * SHARE - 0.75) / 0.75, "The remaining time is 1 − t = 0.5, not x."),
    ]
    for value, sentence in slips:
        if abs(got - value) < 0.006:
            raise Wrong("{got:.3g} is not it. {slip}", got=got, slip=message(sentence))
    raise Wrong(
        "{got:.3g} is not it. Which noise leads to x = 0.75 with the image 2, and which with the image 0?",
        got=got,
    )


# --- 2: the image that a predicted noise means --------------------------------------------------------------


def judge_image_from_noise(answer):
    generator = torch.Generator().manual_seed(0)
    for batch, channels, height, width in ((3, 1, 4, 5), (2, 3, 2, 2)):
        size = (batch, channels, height, width)
        noise, x_t = torch.randn(2, *size, generator=generator)
        t = 0.1 + 0.8 * torch.rand(batch, generator=generator)
        want, case = image_from_noise(noise, x_t, t), f"images {size}"
        got = as_tensor(answer(noise.clone(), x_t.clone(), t.clone()), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        _name_slip_of_image(got, noise, x_t, t[:, None, None, None], case)
        require_values(got, want, case)


def _name_slip_of_image(got, noise, x_t, t, case):
    slips = [
        (x_t - (1 - t) * noise, "Divide by t: the path holds t · x_1."),
        ((x_t - noise) / t, "This is the velocity. The path holds (1 − t) · ε, so take this much away."),
        ((x_t - t * noise) / t, "The noise has the weight 1 − t on the path, not t."),
        ((x_t - (1 - t) * noise) / (1 - t), "The image has the weight t on the path: divide by t."),
        ((x_t + (1 - t) * noise) / t, "Take the noise away from x_t; you added it."),
        ((x_t - t * noise) / (1 - t), "In this chapter t = 1 is the image; you have t = 1 as the noise."),
    ]
    for value, sentence in slips:
        if torch.allclose(got, value, atol=1e-4):
            raise Wrong("For {case}: {slip}", case=message(case), slip=message(sentence))


def image_from_noise(noise, x_t, t):
    t = t[:, None, None, None]
    return (x_t - (1 - t) * noise) / t


# --- 3: Heun's method ---------------------------------------------------------------------------------------


def judge_heun(answer):
    start = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 5):
        seen = []
        got = answer(_watched(seen), start.clone(), steps)
        case = f"{steps} steps"
        want = heun(_curved, start, steps)
        got = as_tensor(got, want, case)
        if any(t == 1 for t in seen):
            raise Wrong("For {case}: the velocity was asked for t = 1. The last step is Euler's.", case=case)
        if not torch.allclose(got, want, atol=1e-4):
            _name_slip_of_heun(got, start, steps, case)
            require_values(got, want, case)


def _curved(x, t):
    return (1 + 2 * t[:, None]) * x.flip(1) - x


def _watched(seen):
    """The same velocity, which notes the times that it is asked for, and wants them as (B,)."""

    def velocity(x, t):
        if not isinstance(t, torch.Tensor) or t.shape != x.shape[:1]:
            raise Wrong("velocity(x, t) wants t of the shape (B,), one time for each row of x.")
        seen.extend(t.tolist())
        return _curved(x, t)

    return velocity


def _name_slip_of_heun(got, x, steps, case):
    slips = [
        (_solve(x, steps, lambda x, t, dt: x + dt * _at(x, t)), "These are Euler's steps."),
        (
            _solve(x, steps, lambda x, t, dt: x + dt * _at(x + dt / 2 * _at(x, t), t + dt / 2)),
            "This is the midpoint method. Heun takes the mean of both ends.",
        ),
        (
            _solve(x, steps, _second_step_from_the_end),
            "The step with the mean velocity starts at x, not at the end of the Euler step.",
        ),
        (
            _solve(x, steps, lambda x, t, dt: x + dt * (_at(x, t) + _at(x + dt * _at(x, t), t)) / 2),
            "The second velocity belongs to the time after the step.",
        ),
        (
            _solve(x, steps, lambda x, t, dt: x + dt * (_at(x, t) + _at(x + dt * _at(x, t), t + dt))),
            "Take the mean of both velocities, not their sum.",
        ),
    ]
    for value, sentence in slips:
        if torch.allclose(got, value, atol=1e-4):
            raise Wrong("For {case}: {slip}", case=message(case), slip=message(sentence))


def _second_step_from_the_end(x, t, dt):
    ahead = x + dt * _at(x, t)
    return ahead + dt * (_at(x, t) + _at(ahead, t + dt)) / 2


def _solve(x, steps, step):
    """Steps of one kind; the last one is Euler's."""
    for k in range(steps - 1):
        x = step(x, k / steps, 1 / steps)
    return x + _at(x, (steps - 1) / steps) / steps


def _at(x, t):
    return _curved(x, torch.full((len(x),), t))


def heun(velocity, x, steps):
    for step in range(steps):
        t = torch.full((len(x),), step / steps)
        v = velocity(x, t)
        ahead = x + v / steps
        if step < steps - 1:
            ahead = x + (v + velocity(ahead, t + 1 / steps)) / 2 / steps
        x = ahead
    return x


# --- 4: does the schedule of t matter? ----------------------------------------------------------------------


def judge_schedules(answer):
    if not isinstance(answer, dict) or set(answer) != {"uniform", "sigmoid", "conclusion"}:
        raise Wrong('A dict is wanted, with the keys "uniform", "sigmoid" and "conclusion".')
    fits = {name: _as_fits(answer[name], name) for name in ("uniform", "sigmoid")}
    conclusion = answer["conclusion"]
    if conclusion not in ("uniform", "sigmoid", "no difference"):
        raise Wrong('The conclusion is "uniform", "sigmoid" or "no difference".')
    difference = statistics.mean(fits["uniform"]) - statistics.mean(fits["sigmoid"])
    spread = statistics.stdev(fits["uniform"]) + statistics.stdev(fits["sigmoid"])
    if abs(difference) <= spread:
        follows = "no difference"
    else:
        follows = "uniform" if difference > 0 else "sigmoid"
    if conclusion != follows:
        raise Wrong(
            "Your means differ by {difference:.4f}, and the sum of your standard deviations is {spread:.4f}. "
            'From these numbers follows "{follows}".',
            difference=abs(difference),
            spread=spread,
            follows=message(follows),
        )


def _as_fits(values, name):
    """-> three numbers as a run of the field gives them."""
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise Wrong("Under {name} three numbers are wanted, one for each seed.", name=name)
    fits = [as_number(value, f"a number under {name}") for value in values]
    if len(set(fits)) < 3:
        raise Wrong("Two numbers under {name} are equal: was the seed changed?", name=name)
    for fit in fits:
        if fit > 1:
            raise Wrong("{fit:.3g} under {name}: R² is at most 1.", fit=fit, name=name)
        if fit < 0.8:
            raise Wrong(
                "{fit:.3g} under {name}: a field that was trained for 1,500 steps has more than 0.8. "
                "Was it trained, and is each time between 0 and 1?",
                fit=fit,
                name=name,
            )
    return fits


EXERCISES = {
    "1": Exercise(
        judge_velocity,
        hints=(
            "Solve 0.75 = 0.5 ε + 0.5 x_1 for ε, once with x_1 = 2 and once with x_1 = 0.",
            "The noises are −0.5 and 1.5. Their densities are proportional to exp(−ε²/2): 0.882 and 0.325.",
            "The image 2 has the probability 0.882/(0.882 + 0.325) = 0.731. The expected image is 1.462.",
        ),
        solution=1.42,
        why="The expected image is 0.731 · 2 = 1.462, and (1.462 − 0.75)/0.5 = 1.42. The answer lies between "
        "the velocity to 2, which is 2.5, and the velocity to 0, which is −1.5.",
    ),
    "2": Exercise(
        judge_image_from_noise,
        hints=(
            "Begin with x_t = (1 − t) ε + t x_1 and solve for x_1.",
            "The time has to be multiplied with images: t[:, None, None, None].",
            "(x_t − (1 − t) · noise) / t",
        ),
        solution=image_from_noise,
        why="Noise, image and velocity are three names for one prediction, as long as x_t and t are known. "
        "Near t = 0 the division makes small errors of the predicted noise large.",
    ),
    "3": Exercise(
        judge_heun,
        hints=(
            "First an Euler step: ahead = x + v(x, t) / steps.",
            "Then look at the velocity at its end, v(ahead, t + 1/steps), and take the mean of both.",
            "x + (v + v_ahead) / 2 / steps, from the old x. In the last step keep `ahead`.",
        ),
        solution=heun,
        why="An Euler step uses the velocity at its beginning only. The mean of both ends cancels the first "
        "error term, so half the step size gives a quarter of the error.",
    ),
    "4": Exercise(
        judge_schedules,
        hints=(
            "torch.randn(n).sigmoid() gives the times. Call runtime.seed_everything(seed) before Field().",
            "For each seed: field = Field(); train_field(field, draw_t=…); r_squared(field).",
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "uniform": [0.9285, 0.9195, 0.9216],
            "sigmoid": [0.9102, 0.9218, 0.9145],
            "conclusion": "no difference",
        },
        why="In this run the means are 0.923 and 0.916, and the standard deviations 0.005 and 0.006. Three "
        "seeds show no difference here. Esser et al. [2024] found one on large images, by other measures.",
    ),
}
