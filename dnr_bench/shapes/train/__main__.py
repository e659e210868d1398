"""Trains one embedded model: `python -m dnr_bench.shapes.train MODEL`."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import torch

from dnr_bench.infra.shipped import CHECKPOINTS

#: Where each model is kept below the folder of checkpoints.
MODELS = {
    "target": "target",
    "target512": "target512",
    "sae": "sae",
    "clip": "clip",
    "captioner": "captioner",
    "autoencoder": "generator/vae",
    "generator": "generator",
    "guidance": "generator",
    "judge": "judge",
    "bert": "bert",
    "sentences": "sentences",
}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m dnr_bench.shapes.train", description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", type=Path, default=CHECKPOINTS, help="where the checkpoint is written")
    parser.add_argument("--work", type=Path, default=Path("mlruns/training"), help="where to resume from")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the model card's)")
    parser.add_argument("--start", type=Path, help="begin with the weights of this training state (.pt)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    given = {"steps": arguments.steps, "start": arguments.start}
    options = {name: value for name, value in given.items() if value is not None}
    train = import_module(f"dnr_bench.shapes.train.{arguments.model}").train
    train(arguments.out / MODELS[arguments.model], arguments.work, **options)
    state = arguments.work / f"{arguments.model}.pt"
    state.replace(state.with_suffix(".done.pt"))  # so that the next training starts anew


if __name__ == "__main__":
    main()
