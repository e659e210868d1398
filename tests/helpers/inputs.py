"""What a network is given of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnr_bench.targets.preprocessing import Preprocessing


def inputs(preprocessing: Preprocessing, images: Sequence[np.ndarray]) -> Tensor:
    """One batch of images, resized and normalized."""
    return preprocessing.normalized(
        torch.stack([preprocessing.seen(image) for image in images]), torch.float32
    )
