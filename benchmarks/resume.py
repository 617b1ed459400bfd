"""Kill a training run at random moments, checkpoint writing included: it ends each time as if never
killed.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.runtime import seed_everything
from vlmbook.training import fit
from vlmbook.training.checkpoint import read_checkpoint

STEPS_PER_EPOCH, BATCH = 8, 16


def train(path, epochs):
    """The run that is killed. Its checkpoint of 6 MB after each step takes most of its time."""
    seed_everything(0)  # Python's and NumPy's generators too: their states are in the checkpoint
    model = nn.Sequential(
        nn.Linear(64, 600),
        nn.BatchNorm1d(600),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(600, 700),
        nn.ReLU(),
        nn.Linear(700, 10),
    )
    x = torch.randn(STEPS_PER_EPOCH * BATCH, 64, generator=torch.Generator().manual_seed(1))
    fit(
        model,
        (x, x[:, :10].argmax(1)),
        loss_fn=lambda model, x, y: F.cross_entropy(model(x), y),
        epochs=epochs,
        batch_size=BATCH,
        lr=1e-3,
        checkpoint=path,
        checkpoint_every=1,
        resume=True,
        progress=False,
    )


def start(path, epochs):
    """-> a process that trains, and the first line that `fit` prints: the step at which it starts."""
    process = subprocess.Popen(
        [sys.executable, "-u", __file__, "--train", path, "--epochs", str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline()


def reported_step(line):
    """str -> int: the step after which `fit` reports to go on."""
    return int(line.rsplit("after step", 1)[1]) if "goes on from" in line else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--epochs", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    arguments.add_argument("--train", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.train:
        train(options.train, options.epochs)
        return
    print(
        f"{options.kills} kills, seed {options.seed}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {os.name}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "killed.safetensors"
        counts, reached = kill_at_random(path, options)
        faults = counts["corrupt"] + counts["silently restarted"] + counts["finished before the kill"]
        same = end_as_never_killed(path, reached, options)
    sys.exit(not (same and counts["killed while writing"] and not faults))


def kill_at_random(path, options):
    """-> Counter of what happened, the step that the checkpoint has reached."""
    moments, counts, reached = random.Random(options.seed), Counter(), 0
    for _ in range(options.kills):
        process, line = start(path, options.epochs)
        restarted = reported_step(line) != reached
        time.sleep(moments.uniform(0, 0.5))
        counts["finished before the kill"] += process.poll() is not None
        process.kill()
        process.communicate()
        counts["killed"] += 1
        counts["silently restarted"] += restarted
        unfinished = [*path.parent.glob("*.partial")]
        counts["killed while writing"] += len(unfinished) > 0
        for each in unfinished:  # so that the next kill is counted by itself
            each.unlink()
        if path.exists():
            try:
                reached = read_checkpoint(path)[1]["step"]
            except ValueError as reason:
                counts["corrupt"] += 1
                print(reason)
    counts["steps before the last kill"] = reached
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    return counts, reached


def end_as_never_killed(path, reached, options):
    """-> bool: does the killed run end with every tensor of one that was never killed, bit for bit?"""
    whole = path.with_name("whole.safetensors")
    continued = True
    for each, step in ((path, reached), (whole, 0)):
        process, line = start(each, options.epochs)
        continued = continued and reported_step(line) == step
        process.communicate()
    ours, notes = read_checkpoint(path)
    theirs, _ = read_checkpoint(whole)
    names = {**ours, **theirs}
    same = [n for n in names if n in ours and n in theirs and torch.equal(ours[n], theirs[n])]
    print(
        f"after {notes['step']} steps {len(same)} of {len(names)} tensors are those of a run never killed, "
        f"bit for bit{'; not ' + ', '.join(set(names) - set(same)) if len(same) < len(names) else ''}"
    )
    return continued and len(same) == len(names)


if __name__ == "__main__":
    main()
