"""Trains the embedded text-to-image model: a Stable Diffusion pipeline of the shapes world.

Text encoder and denoiser learn together on the latents of the trained autoencoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from dnr_bench.shapes.concepts import FACETS, Concept
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.train.autoencoder import encode
from dnr_bench.shapes.train.data import draw_scenes
from dnr_bench.shapes.train.loop import fit
from dnr_bench.shapes.train.tokenizer import VOCABULARY, build_tokenizer
from dnr_bench.shapes.world import CAPTION_TEMPLATES, caption, held_out_prompt, held_out_scene

_TEXT_WIDTH = 128
_WIDTHS = (64, 160)  # channels at 16x16 and at 8x8
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": _TEXT_WIDTH,
    "intermediate_size": 2 * _TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "bos_token_id": VOCABULARY["[CLS]"],
    "eos_token_id": VOCABULARY["[SEP]"],
    "pad_token_id": VOCABULARY["[PAD]"],
}
DENOISER = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": _WIDTHS,  # thin at 16x16; attention, to the text too, at 8x8
    "layers_per_block": 1,
    "attention_head_dim": 4,  # of UNet2DConditionModel: the number of heads
    "cross_attention_dim": _TEXT_WIDTH,
    "addition_embed_type": "text",  # the pooled text joins the time embedding: it is learnt much sooner
    "addition_embed_type_num_heads": 4,
    "norm_num_groups": 16,
}
#: Noise levels with no signal left at the last one, so that few steps get the brightness right
#: (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed").
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
_UNCONDITIONAL_SHARE = 0.1  # of the captions is empty, for classifier-free guidance


class Painter(nn.Module):
    """The two parts that learn together, and heads on the middle of the denoiser that are dropped afterwards.

    The heads name the scene's attributes: so the middle learns early to hold what text and image say.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT))
        self.unet = UNet2DConditionModel(**DENOISER)
        self.heads = nn.ModuleDict({facet: nn.Linear(_WIDTHS[-1], len(v)) for facet, v in FACETS.items()})
        self.unet.mid_block.register_forward_hook(self._keep_middle)

    def forward(
        self, noisy: Float[Tensor, "batch 8 16 16"], times: Tensor, tokens: Tensor
    ) -> tuple[Float[Tensor, "batch 8 16 16"], dict[str, Tensor]]:
        """The velocity, and logits of the attributes of each facet."""
        words = self.text_encoder(tokens).last_hidden_state
        with sdpa_kernel(SDPBackend.MATH):  # the fused one is slower backwards on processors
            velocity = self.unet(noisy, times, words).sample
        pooled = self.middle.mean(dim=(2, 3))
        return velocity.float(), {facet: head(pooled).float() for facet, head in self.heads.items()}

    def _keep_middle(self, block: nn.Module, inputs: object, output: Tensor) -> None:
        self.middle = output


class Lessons:
    """Latents of training scenes, what these are called, and the noise that is to be told from them."""

    def __init__(self, directory: Path, n_images: int) -> None:
        self.autoencoder = AutoencoderKL.from_pretrained(directory / "vae", dtype=torch.float32)
        self.autoencoder.register_to_config(_name_or_path="")  # else a folder of this machine is kept
        self.tokenizer = build_tokenizer()
        self.scheduler = DPMSolverMultistepScheduler(**SCHEDULE)
        data = draw_scenes("train", n_images)
        shown = np.flatnonzero([not held_out_scene(scene) for scene in data.scenes])
        self.scenes = [data.scenes[i] for i in shown]
        self.truth = {facet: values[shown] for facet, values in data.truth().items()}
        self.latents = encode(self.autoencoder, data.images[shown])

    def __len__(self) -> int:
        return len(self.scenes)

    def noisy(self, indices: np.ndarray) -> tuple[Tensor, Tensor, Float[Tensor, "batch 8 16 16"]]:
        """Latents with noise, how much of it (the time), and the velocity, for a batch of scenes."""
        draw = torch.Generator().manual_seed(int(np.random.default_rng(indices[:4]).integers(2**62)))
        clean = self.latents[indices].float() * self.autoencoder.config.scaling_factor
        noise = torch.randn(clean.shape, generator=draw)
        kept = self.scheduler.alphas_cumprod
        times = torch.randint(len(kept), (len(clean),), generator=draw)
        s, n = (share[times].sqrt()[:, None, None, None] for share in (kept, 1 - kept))
        return s * clean + n * noise, times, s * noise - n * clean

    def tokens(self, texts: Sequence[str]) -> Int64[Tensor, "batch 40"]:
        """Texts as the pipeline gives them to the text encoder."""
        tokens: Tensor = self.tokenizer(list(texts), padding="max_length", return_tensors="pt")["input_ids"]
        return tokens

    def save(self, painter: Painter, directory: Path) -> None:
        """Write a `StableDiffusionPipeline` directory (float16)."""
        self.scheduler.register_to_config(clip_sample=False, set_alpha_to_one=False)  # for DDIM and others
        pipeline = StableDiffusionPipeline(
            vae=self.autoencoder.half(),
            text_encoder=painter.text_encoder.half(),
            tokenizer=self.tokenizer,
            unet=painter.unet.half(),
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(directory)


def train(
    directory: Path, work: Path, *, n_images: int = 60_000, steps: int = 7_000, start: Path | None = None
) -> None:
    """Train and write the pipeline, which needs guidance; `directory`/vae must be there."""
    torch.manual_seed(0)
    painter, lessons = Painter(), Lessons(directory, n_images)

    def loss_of(indices: np.ndarray) -> Tensor:
        rng = np.random.default_rng(indices[4:8])
        texts = [
            "" if rng.random() < _UNCONDITIONAL_SHARE else words_for(lessons.scenes[i], rng) for i in indices
        ]
        noisy, times, velocity = lessons.noisy(indices)
        found, logits = painter(noisy, times, lessons.tokens(texts))
        named = [nn.functional.cross_entropy(logits[f], lessons.truth[f][indices]) for f in FACETS]
        return nn.functional.mse_loss(found, velocity) + 0.1 * torch.stack(named).mean()

    fit(painter, loss_of, len(lessons), work / "generator.pt", steps=steps, batch_size=64,
        learning_rate=4e-4, average=0.999, start=start)  # fmt: skip
    lessons.save(painter, directory)


def words_for(scene: Scene, rng: np.random.Generator) -> str:
    """The training text of a scene: a full caption, or some of its attributes."""
    while held_out_prompt(words := _wording(scene, rng)):
        pass
    return words


def _wording(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return caption(scene, int(rng.integers(len(CAPTION_TEMPLATES))))
    concept = partial_concept(scene, rng)
    if rng.random() < 0.1:  # "red circle or blue star": the other side need not hold
        other = partial_concept(sample_scene(rng), rng)
        concept = Concept(concept.alternatives | other.alternatives)
    return phrase(concept, rng)
