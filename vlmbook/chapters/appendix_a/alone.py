"""What runs in a process of its own: `python alone.py part.py task.json arrays.npz result.json`.

The part holds functions of the notebook, the task says which of them is called with what. `elsewhere` starts
it. It imports nothing of this package: what it measures is the framework.
"""

import importlib.util
import json
import sys
import time

import numpy as np

TINY = 1e-12  # an epsilon that has no effect in float32


def main(part: str, task: str, arrays: str, result: str) -> None:
    """Paths of the functions, the task, its arrays and its result -> None: the result is a JSON file."""
    with open(task, encoding="utf-8") as file:
        asked = json.load(file)
    with np.load(arrays) as stored:
        given = dict(stored)
    try:
        names = load(part)
        if asked["compare"]:
            value = compare(*(names[name] for name in asked["compare"]), given, **asked["arguments"])
        else:
            value = names[asked["call"]](**given, **asked["arguments"])
        answer = {"value": value}
    except Exception as error:  # it is told to the reader, in the notebook
        answer = {"error": f"{type(error).__name__}: {error}"}
    with open(result, "w", encoding="utf-8") as file:
        json.dump(answer, file)


def load(path: str) -> dict:
    """Path of a module -> its names."""
    spec = importlib.util.spec_from_file_location("part", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def compare(make, train, predict, given, *, seeds, batch_size, steps):
    """Three functions of one framework, arrays -> dict: accuracy and processor's seconds of training for each
    seed, parameters, peak of memory; then two runs from given weights, with the framework's own epsilon in
    Adam and with nearly none.

    `make(seed)` gives a model, `train(model, images, labels, order)` the mean loss of all steps up to each,
    `predict(model, images)` logits (N, 10). `order` holds the images of each step, the same for all.
    """
    images, labels = given["images"], given["labels"]
    test_images, test_labels = given["test_images"], given["test_labels"]
    start = [given[f"start{place}"] for place in range(6)]
    make(0)
    found = {"memory_imported": peak_memory(), "accuracy": [], "seconds": []}
    for seed in seeds:
        order = draw_order(len(images), seed, steps=steps, batch_size=batch_size)
        model = make(seed)
        clock = time.process_time()
        train(model, images, labels, order)
        found["seconds"].append(time.process_time() - clock)
        guesses = predict(model, test_images).argmax(1)
        found["accuracy"].append(float((guesses == test_labels).mean()))
    found["memory"] = peak_memory()
    order = draw_order(len(images), 0, steps=steps, batch_size=batch_size)
    for name, options in {"own epsilon": {}, "no epsilon": {"epsilon": TINY}}.items():
        model = make(0)
        set_weights(model, start)
        found["parameters"] = count_parameters(model)
        found["first_logits"] = predict(model, test_images[:20]).tolist()
        losses = train(model, images, labels, order, **options)
        guesses = predict(model, test_images).argmax(1)
        found[name] = {"loss": [float(loss) for loss in losses], "guesses": guesses.tolist()}
    return found


def draw_order(images: int, seed: int, *, steps: int, batch_size: int) -> np.ndarray:
    """-> (steps, batch_size): the numbers of the images of each step; each epoch in its own order, without
    the images that fill no batch.
    """
    generator = np.random.default_rng(seed)
    each = images // batch_size
    epochs = -(-steps // each)
    orders = [generator.permutation(images)[: each * batch_size] for _ in range(epochs)]
    return np.concatenate(orders).reshape(-1, batch_size)[:steps]


def count_parameters(model) -> int:
    """A model of PyTorch or of Keras -> int."""
    if hasattr(model, "count_params"):
        return int(model.count_params())
    return sum(parameter.numel() for parameter in model.parameters())


def set_weights(model, weights):
    """A model of PyTorch or of Keras, arrays in its own layout -> None."""
    if hasattr(model, "set_weights"):
        model.set_weights(weights)
        return
    import torch

    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))


def peak_memory() -> int:
    """-> bytes: the largest resident size of this process since it was started."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:  # Linux; getrusage counts the parent there
            [peak] = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        return 1024 * int(peak)
    except OSError:
        pass
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main(*sys.argv[1:])
