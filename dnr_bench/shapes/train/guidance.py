"""Teaches the embedded text-to-image model to draw in one pass what guidance takes two for.

The student's velocity for a text is the teacher's guided one (Meng et al. 2023, "On Distillation of Guided
Diffusion Models", with one strength of guidance), so that runs need half the time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dnr_bench.shapes.train.generator import Lessons, Painter, words_for
from dnr_bench.shapes.train.loop import fit

_GUIDANCE = 4.5


def train(
    directory: Path, work: Path, *, n_images: int = 30_000, steps: int = 1_500, start: Path | None = None
) -> None:
    """Train and write the pipeline, which needs no guidance.

    `start` is the state that `train generator` left (default: where it leaves it).
    """
    start = start or work / "generator.done.pt"
    torch.manual_seed(0)
    student, teacher, lessons = Painter(), Painter(), Lessons(directory, n_images)
    teacher.load_state_dict(torch.load(start, weights_only=True)["model"])
    teacher.eval()
    student.text_encoder.requires_grad_(False)

    def loss_of(indices: np.ndarray) -> Tensor:
        rng = np.random.default_rng(indices[4:8])
        tokens = lessons.tokens([words_for(lessons.scenes[i], rng) for i in indices] + [""] * len(indices))
        noisy, times, _ = lessons.noisy(indices)
        with torch.no_grad():
            with_text, without = teacher(torch.cat([noisy] * 2), torch.cat([times] * 2), tokens)[0].chunk(2)
        found, _ = student(noisy, times, tokens[: len(indices)])
        return nn.functional.mse_loss(found, without + _GUIDANCE * (with_text - without))

    fit(student, loss_of, len(lessons), work / "guidance.pt", steps=steps, batch_size=64,
        learning_rate=2e-4, average=0.995, start=start)  # fmt: skip
    lessons.save(student, directory)
