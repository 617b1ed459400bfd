"""Exercises of chapter 6a, face recognition."""

import math

import torch
from torch.nn import functional as F

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: how many pairs --------------------------------------------------------------------------------------

SAME, DIFFERENT = 20 * 45, 190 * 100


def judge_pairs(answer):
    same, different = _as_counts(answer)
    if (same, different) == (SAME, DIFFERENT):
        return
    if (same, different) == (DIFFERENT, SAME):
        raise Wrong("The two numbers are exchanged: the pairs of one person come first.")
    if same == 2 * SAME:
        raise Wrong("{same} counts each pair twice, (a, b) and (b, a).", same=same)
    if same == 20 * 55:
        raise Wrong(
            "{same} holds pairs of an image with itself. Its distance is 0, and teaches nothing.", same=same
        )
    if same == 45:
        raise Wrong("45 pairs are those of one person. There are 20 people.")
    if same != SAME:
        raise Wrong(
            "{same} pairs of one person? Ten images make 10·9/2 pairs; do so for 20 people.", same=same
        )
    if different == 2 * DIFFERENT:
        raise Wrong("{different} counts each pair twice, (a, b) and (b, a).", different=different)
    if different == 190:
        raise Wrong("190 are the pairs of people. Each pair of people has 10·10 pairs of images.")
    if different == SAME + DIFFERENT:
        raise Wrong("{different} are all pairs. Subtract those of one person.", different=different)
    raise Wrong(
        "{different} pairs of two people? There are 20·19/2 pairs of people, with 100 pairs of images each.",
        different=different,
    )


def _as_counts(answer):
    wanted = "Two whole numbers are wanted: the pairs of one person, and the pairs of two."
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong(wanted)
    counts = [as_number(each, "each of the two") for each in answer]
    if any(count != round(count) for count in counts):
        raise Wrong(wanted)
    return tuple(round(count) for count in counts)


# --- 2: F1 --------------------------------------------------------------------------------------------------

COUNTS = ((5, 5, 5, 985), (30, 10, 20, 40), (3, 0, 1, 6), (8, 2, 0, 0))


def judge_f1(answer):
    for tp, fp, fn, tn in COUNTS:
        call = f"f1({tp}, {fp}, {fn}, {tn})"
        got = as_number(answer(tp, fp, fn, tn), call)
        want = f1(tp, fp, fn, tn)
        if abs(got - want) < 1e-6:
            continue
        fields = {"call": call, "got": got, "want": want}
        accuracy, recall, precision = (tp + tn) / (tp + fp + fn + tn), tp / (tp + fn), tp / (tp + fp)
        if abs(got - 2 * accuracy * recall / (accuracy + recall)) < 1e-6:
            raise Wrong(
                "{call} is {got:.4g}, not {want:.4g}. That is the book's recipe, accuracy with recall. "
                "F1 needs precision, and not accuracy.",
                **fields,
            )
        if abs(got - (precision + recall) / 2) < 1e-6:
            raise Wrong(
                "{call} is {got:.4g}, not {want:.4g}. The mean is harmonic, not arithmetic.", **fields
            )
        if abs(got - accuracy) < 1e-6:
            raise Wrong("{call} is {got:.4g}, not {want:.4g}. That is the accuracy.", **fields)
        if abs(got - tp / (2 * tp + fp + fn)) < 1e-6:
            raise Wrong("{call} is {got:.4g}, not {want:.4g}. The factor 2 is missing above.", **fields)
        if abs(got - tp / (tp + fp + fn)) < 1e-6:
            raise Wrong(
                "{call} is {got:.4g}, not {want:.4g}. That is the IoU of both sets. TP counts twice.",
                **fields,
            )
        raise Wrong(
            "{call} is {got:.4g}, not {want:.4g}. Precision is TP/(TP + FP), recall TP/(TP + FN); "
            "take 2PR/(P + R).",
            **fields,
        )


def f1(tp, fp, fn, tn):
    return 2 * tp / (2 * tp + fp + fn)


# --- 3: ArcFace's logits ------------------------------------------------------------------------------------


def judge_arcface(answer):
    cosines, labels = _arcface_case()
    for scale, margin in ((16.0, 0.3), (8.0, 0.0), (30.0, 0.5)):
        case = message("scale {scale:g} and margin {margin:g}", scale=scale, margin=margin)
        want = arcface_logits(cosines, labels, scale, margin)
        got = as_tensor(answer(cosines.clone(), labels.clone(), scale, margin), want, case)
        if torch.allclose(got, want, atol=1e-3):
            continue
        _name_the_margin(got, cosines, labels, scale, margin, case)
        require_values(got, want, case)


def _arcface_case():
    cosines = torch.tensor([[0.8, 0.1, -0.4], [0.3, 0.6, 0.0], [-0.2, 0.5, 0.9], [0.7, -0.6, 0.2]])
    return cosines, torch.tensor([0, 1, 2, 2])


def _name_the_margin(got, cosines, labels, scale, margin, case):
    """Raises Wrong for the slips that are often made."""
    true = F.one_hot(labels, 3).bool()
    slips = {
        "For {case} nothing is added to the angle. Only the column of the true person changes.": scale
        * cosines,
        "For {case} the margin is added for every person. Only the true person's angle gets it.": scale
        * (cosines.acos() + margin).cos(),
        "For {case} the margin is subtracted from the cosine (that is CosFace). Add it to the angle.": scale
        * torch.where(true, cosines - margin, cosines),
        "For {case} the margin is subtracted from the angle, which makes the task easier. Add it.": scale
        * torch.where(true, (cosines.acos() - margin).cos(), cosines),
        "For {case} the scale is missing.": torch.where(true, (cosines.acos() + margin).cos(), cosines),
        "For {case} the true person's logit is not scaled.": torch.where(
            true, (cosines.acos() + margin).cos(), scale * cosines
        ),
        "For {case} the margin is added to the cosine. θ = arccos of it; add the margin to θ.": scale
        * torch.where(true, cosines + margin, cosines),
    }
    for template, values in slips.items():
        if torch.allclose(got, values, atol=1e-3):
            raise Wrong(template, case=case)


def arcface_logits(cosines, labels, scale, margin):
    angles = cosines.acos()
    turned = (angles + margin).cos()
    true = F.one_hot(labels, cosines.shape[1]).bool()
    return scale * torch.where(true, turned, cosines)


# --- 4: which threshold -------------------------------------------------------------------------------------


def judge_threshold(answer):
    for case, (distances, same, far) in _threshold_cases().items():
        name = message(case)
        got = as_number(answer(distances.clone(), same.clone(), far), name)
        accepted = distances <= got
        reached = accepted[~same].float().mean().item()
        wanted = distances <= choose_threshold(distances, same, far)
        fields = {"case": name, "reached": reached, "far": far}
        if torch.equal(accepted, wanted):
            continue
        if reached > far + 1e-9:
            frr = 1 - accepted[same].float().mean().item()
            if frr <= far + 1e-9:
                raise Wrong(
                    "For {case} the FRR is limited, and the FAR is {reached:.3g}. Use the other pairs.",
                    **fields,
                )
            raise Wrong("For {case} the FAR is {reached:.3g}, more than {far:g}.", **fields)
        recalls = {"got": accepted[same].float().mean().item(), "want": wanted[same].float().mean().item()}
        raise Wrong(
            "For {case} the FAR of {reached:.3g} is allowed. The TAR is {got:.3g}, and could be {want:.3g}. "
            "Take the largest threshold that is allowed.",
            **fields,
            **recalls,
        )


def _threshold_cases():
    generator = torch.Generator().manual_seed(4)
    same = torch.rand(400, generator=generator) < 0.3
    distances = torch.rand(400, generator=generator) + 0.6 * (~same)
    few = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    kinds = torch.tensor([True, True, False, True, False, False])
    return {
        "six pairs and FAR 0": (few, kinds, 0.0),
        "six pairs and FAR 0.34": (few, kinds, 0.34),
        "400 pairs and FAR 0.05": (distances, same, 0.05),
        "400 pairs and FAR 0.3": (distances, same, 0.3),
    }


def choose_threshold(distances, same, far):
    candidates = distances.sort().values
    rates = torch.stack([(distances[~same] <= t).float().mean() for t in candidates])
    allowed = candidates[rates <= far]
    return allowed[-1].item() if len(allowed) else candidates[0].item() - 1


# --- 5: train, change, measure ------------------------------------------------------------------------------


def judge_trade(answer):
    if not isinstance(answer, dict) or set(answer) != {"more people", "more images"}:
        raise Wrong('A dict of two numbers is wanted, with the names "more people" and "more images".')
    rates = {name: as_number(value, name) for name, value in answer.items()}
    for name, rate in rates.items():
        if not 0 < rate < 0.5:
            raise Wrong(
                "{name} has an EER of {rate:g}. A rate lies between 0 and 0.5; 5 % is 0.05.",
                name=name,
                rate=rate,
            )
        if rate > 0.3:
            raise Wrong(
                "{name} has an EER of {rate:.3f}, nearly that of guessing. Was the network trained?",
                name=name,
                rate=rate,
            )
    if math.isclose(rates["more people"], rates["more images"]):
        raise Wrong("Both are {rate:.4f}. Was the same network measured twice?", rate=rates["more people"])
    if rates["more people"] > rates["more images"] + 0.02:  # seeds differ by less
        raise Wrong(
            "Twelve people with twelve images each are better than 48 with three? Check which is which, and "
            "whether both saw 144 images."
        )


EXERCISES = {
    "1": Exercise(
        judge_pairs,
        hints=(
            "How many pairs do ten images make, if (a, b) and (b, a) are one pair?",
            "One person has 10·9/2 = 45 pairs. Two people have 10·10. How many pairs of people are there?",
            "20 · 45, and 20·19/2 · 100.",
        ),
        solution=(SAME, DIFFERENT),
        why="Of 19,900 pairs only 4.5 % are of one person. So a system that always says *different* has an "
        "accuracy of 95.5 %.",
    ),
    "2": Exercise(
        judge_f1,
        hints=(
            "F1 is the harmonic mean of two rates. Neither of them uses the true negatives.",
            "P = TP/(TP + FP), R = TP/(TP + FN), F1 = 2PR/(P + R).",
            "Put both in: 2·TP / (2·TP + FP + FN).",
        ),
        solution=f1,
        why="With 10 positives in 1,000 the accuracy is .99 for (5, 5, 5, 985), and the F1 is .5. The true "
        "negatives hide the errors.",
    ),
    "3": Exercise(
        judge_arcface,
        hints=(
            "θ is the arc cosine. Add the margin to the angle of the true person alone.",
            "torch.where(one_hot, …, …) chooses between the turned cosine and the cosine as it is.",
            "scale * torch.where(F.one_hot(labels, K).bool(), (cosines.acos() + margin).cos(), cosines)",
        ),
        solution=arcface_logits,
        why="The true person has to win with an angle that is larger by m. So the angles of one person's "
        "images become smaller than the softmax alone would make them.",
    ),
    "4": Exercise(
        judge_threshold,
        hints=(
            "The FAR is a share of the pairs of two people. Which distance is the last that is allowed?",
            "Try each distance as a threshold, and compute (distances[~same] <= t).float().mean().",
            "Of all distances whose rate is at most far, return the largest.",
        ),
        solution=choose_threshold,
        why="The application names the FAR that it allows, and the threshold follows from it. It is chosen "
        "on other people than those of the test.",
    ),
    "5": Exercise(
        judge_trade,
        hints=(
            "faces[:48, :3] are 48 people with three images each, faces[:12] twelve with twelve.",
            "train(faces[:48, :3], epochs=…) for both, and equal_error_rate of the test people's pairs.",
            "An epoch of 12 people has one batch, of 48 three. Train the twelve for three times the epochs.",
        ),
        solution={"more people": 0.091, "more images": 0.118},  # measured with seed 1
        why="The network has to tell apart people whom it has never seen. A new person teaches it more than "
        "another image of a person that it knows.",
    ),
}
