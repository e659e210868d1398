"""Models to measure with: what ships with the package beside mid-size ones, or architectures of full size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from dnr_bench.infra.shipped import CHECKPOINTS


@dataclass(frozen=True)
class Models:
    """The words of a run that names them; `name`: what they are."""

    name: str
    words: tuple[str, ...]


def small(folder: Path) -> Models:
    """ResNet-18 and CLIP ViT-B/32 at random weights, and the embedded captioner and generator."""
    clip = _clip("ViT-B-32", folder)
    target = ("target=torchvision", "target.name=resnet18", "target.weights=null", "neurons.layers=[layer4]")
    return Models("ResNet-18, CLIP ViT-B/32, embedded BLIP and generator", (*target, *clip))


def full(folder: Path, steps: int) -> Models:
    """ResNet-50, BLIP base, CLIP ViT-B/16 and Stable Diffusion 1.5 in bfloat16, at random weights."""
    words = [
        "target=torchvision", "target.name=resnet50", "target.weights=null", "neurons.layers=[layer4]",
        *_clip("ViT-B-16", folder), "captioner=blip_base", f"captioner.checkpoint={_blip(folder)}",
        "generator=sd15", f"generator.checkpoint={_stable_diffusion(folder)}", f"generator.steps={steps}",
        "generator.variant=null", "device=cuda", "dtype=bfloat16",
    ]  # fmt: skip
    return Models(
        f"ResNet-50, BLIP base, CLIP ViT-B/16, Stable Diffusion 1.5 with {steps} steps", tuple(words)
    )


def _clip(name: str, folder: Path) -> tuple[str, ...]:
    file = folder / f"{name}.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        save_file(open_clip.create_model(name).state_dict(), file)
    return "encoder=open_clip", f"encoder.name={name}", f"encoder.pretrained={file}"


def _blip(folder: Path) -> Path:
    """BLIP base; tokens beyond the small tokenizer's are left out of its captions."""
    path = folder / "blip"
    if not path.exists():
        torch.manual_seed(0)
        tokenizer = BlipProcessor.from_pretrained(CHECKPOINTS / "captioner").tokenizer
        BlipForConditionalGeneration(BlipConfig()).to(torch.bfloat16).save_pretrained(path)
        BlipProcessor(BlipImageProcessor(size={"height": 384, "width": 384}), tokenizer).save_pretrained(path)
    return path


def _stable_diffusion(folder: Path) -> Path:
    """The architecture of Stable Diffusion 1.5; its text encoder has the words of the small tokenizer."""
    path = folder / "stable_diffusion"
    if path.exists():
        return path
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINTS / "generator" / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(
        down_block_types=blocks[0], up_block_types=blocks[1], block_out_channels=(128, 256, 512, 512),
        layers_per_block=2, sample_size=512,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae.to(torch.bfloat16),
        text_encoder=CLIPTextModel(text).to(torch.bfloat16),
        tokenizer=tokenizer,
        unet=unet.to(torch.bfloat16),
        scheduler=DPMSolverMultistepScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(path)
    return path
