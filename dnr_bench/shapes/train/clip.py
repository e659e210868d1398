"""Trains the embedded CLIP: contrastive, with every image that a phrase fits as a positive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from dnr_bench.shapes.concepts import FACET_OF, Concept
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import SIZE
from dnr_bench.shapes.train.data import draw_scenes
from dnr_bench.shapes.train.loop import fit, half_weights
from dnr_bench.shapes.train.tokenizer import VOCABULARY, build_tokenizer
from dnr_bench.shapes.world import CAPTION_TEMPLATES, caption

CONTEXT = 24
CONFIG = {
    "model_cfg": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 24, "patch_size": None},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(VOCABULARY),
            "hf_tokenizer_name": ".",
            "width": 96,
            "heads": 4,
            "layers": 3,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    },
}
_ATTRIBUTES = list(FACET_OF)


def train(
    directory: Path, work: Path, *, n_images: int = 60_000, steps: int = 4_000, start: Path | None = None
) -> None:
    """Train and write an open_clip directory (float16 weights, tokenizer and preprocessing)."""
    torch.manual_seed(0)
    write_config(directory)
    model = open_clip.create_model(f"local-dir:{directory}", require_pretrained=False)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{directory}")
    data = draw_scenes("train", n_images, zoomed_share=0.2)

    def loss_of(indices: np.ndarray) -> Tensor:
        rng = np.random.default_rng(indices[:4])
        scenes, images = data.batch(indices.tolist())
        full = [
            (caption(s, int(rng.integers(len(CAPTION_TEMPLATES)))), Concept.of(s.attributes)) for s in scenes
        ]
        parts = [(phrase(concept, rng), concept) for concept in (partial_concept(s, rng) for s in scenes)]
        texts, concepts = zip(*full, *parts, strict=True)
        shown = torch.from_numpy(matches([s.attributes for s in scenes], list(concepts)))
        image_features, text_features, scale = model(
            (images - 0.5) / 0.25, tokenizer(list(texts), context_length=CONTEXT)
        )
        logits = (scale * image_features @ text_features.T).float()
        return (_spread_entropy(logits, shown) + _spread_entropy(logits.T, shown.T)) / 2

    fit(model, loss_of, n_images, work / "clip.pt", steps=steps, batch_size=128, learning_rate=2e-3,
        weight_decay=0.05, start=start)  # fmt: skip
    save_file(half_weights(model), directory / "open_clip_model.safetensors")


def write_config(directory: Path) -> None:
    """The parts of the open_clip directory that training does not change."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    build_tokenizer().save_pretrained(directory)


def matches(attributes: list[frozenset[str]], concepts: list[Concept]) -> Float[np.ndarray, "images texts"]:
    """1.0 where an image with these attributes shows the concept."""
    shown = np.asarray([[a in held for a in _ATTRIBUTES] for held in attributes], np.float32)
    result = np.zeros((len(attributes), len(concepts)), np.float32)
    for alternative in range(max(len(concept.alternatives) for concept in concepts)):
        wanted = [c.ordered()[alternative] if alternative < len(c.alternatives) else None for c in concepts]
        rows = np.asarray([[a in w if w else False for a in _ATTRIBUTES] for w in wanted], np.float32)
        named = np.asarray([len(w) if w else np.inf for w in wanted])
        result = np.maximum(result, (shown @ rows.T >= named).astype(np.float32))
    return result


def _spread_entropy(logits: Float[Tensor, "rows columns"], shown: Float[Tensor, "rows columns"]) -> Tensor:
    """Cross-entropy of each row against an even spread over its positives."""
    target = shown / shown.sum(dim=1, keepdim=True).clamp(min=1)
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
