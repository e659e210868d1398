"""Small checkpoints of the real classes, at random weights, in the formats of the big ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import gguf
import numpy as np
import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torchvision.models import resnet18, resnet50
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.targets.tile_net import TileNet

_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
_TEXTS = [
    "a red circle on a blue background", "Answer with one label that fits most captions.",
    "assistant: user: Label: Captions: stripes, dots and checkered squares!",
]  # fmt: skip


class SmallModels:
    """Each is made when it is first asked for, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _made(self, name: str, make: Callable[[Path], None]) -> str:
        path = self.root / name
        if not path.exists():
            torch.manual_seed(0)
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
        return str(path)

    @property
    def blip(self) -> str:
        """A BLIP whose weights are a .bin file, as those of blip-image-captioning-base."""

        def make(path: Path) -> None:
            BlipProcessor.from_pretrained(CHECKPOINTS / "captioner").save_pretrained(path)
            model = BlipForConditionalGeneration.from_pretrained(CHECKPOINTS / "captioner")
            model.config.save_pretrained(path)
            torch.save(model.state_dict(), path / "pytorch_model.bin")

        return self._made("blip", make)

    @property
    def blip2(self) -> str:
        """A BLIP-2 with a small OPT."""

        def make(path: Path) -> None:
            tokenizer = self._tokenizer(additional_special_tokens=["<image>"])
            config = Blip2Config(
                vision_config={"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 16,
                               "num_hidden_layers": 1, "num_attention_heads": 2},
                qformer_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
                                "num_attention_heads": 2, "encoder_hidden_size": 16, "vocab_size": 30},
                text_config={"model_type": "opt", "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "vocab_size": len(tokenizer),
                             "word_embed_proj_dim": 16,
                             "max_position_embeddings": 128, "pad_token_id": tokenizer.pad_token_id,
                             "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
                num_query_tokens=4,
                image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            )  # fmt: skip
            Blip2ForConditionalGeneration(config).save_pretrained(path)
            images = BlipImageProcessor(size={"height": 32, "width": 32})
            Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(path)

        return self._made("blip2", make)

    @property
    def sdxl(self) -> str:
        """A Stable Diffusion XL pipeline."""

        def make(path: Path) -> None:
            tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINTS / "generator" / "tokenizer")
            text = CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length, projection_dim=32,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
            unet = UNet2DConditionModel(
                sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(1, 2),
                use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
                transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=32 + 6 * 8,
                cross_attention_dim=64,
            )  # fmt: skip
            StableDiffusionXLPipeline(
                vae=_small_vae(),
                text_encoder=CLIPTextModel(text),
                text_encoder_2=CLIPTextModelWithProjection(text),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                unet=unet,
                scheduler=EulerDiscreteScheduler(),
            ).save_pretrained(path)

        return self._made("sdxl", make)

    @property
    def lcm(self) -> str:
        """A latent consistency pipeline, whose denoiser is told the guidance."""

        def make(path: Path) -> None:
            folder = CHECKPOINTS / "generator"
            text = CLIPTextModel.from_pretrained(folder / "text_encoder")
            unet = UNet2DConditionModel(
                sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
                cross_attention_dim=text.config.hidden_size, time_cond_proj_dim=16,
            )  # fmt: skip
            LatentConsistencyModelPipeline(
                vae=_small_vae(),
                text_encoder=text,
                tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
                unet=unet,
                scheduler=LCMScheduler(),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            ).save_pretrained(path)

        return self._made("lcm", make)

    @cached_property
    def clip(self) -> tuple[str, str]:
        """The name of a small architecture that open_clip knows now, and a file of its weights."""
        configs = self.root / "clip_configs"
        configs.mkdir(parents=True, exist_ok=True)
        config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        }
        (configs / "Small-CLIP.json").write_text(json.dumps(config))
        open_clip.add_model_config(configs)

        def make(path: Path) -> None:
            save_file(open_clip.create_model("Small-CLIP").state_dict(), path)

        return "Small-CLIP", self._made("clip.safetensors", make)

    @property
    def roberta(self) -> str:
        """A RoBERTa for BERTScore."""

        def make(path: Path) -> None:
            tokenizer = self._tokenizer()
            config = RobertaConfig(
                vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=16, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            RobertaModel(config).save_pretrained(path)
            tokenizer.save_pretrained(path)

        return self._made("roberta", make)

    @property
    def mpnet(self) -> str:
        """A sentence encoder on MPNet: mean of tokens, normalized."""

        def make(path: Path) -> None:
            tokenizer, inner = self._tokenizer(), self.root / "mpnet-inner"
            config = MPNetConfig(
                vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            MPNetModel(config).save_pretrained(inner)
            tokenizer.save_pretrained(inner)
            transformer = Transformer(str(inner))
            SentenceTransformer(modules=[transformer, Pooling(16), Normalize()]).save(str(path))

        return self._made("mpnet", make)

    @property
    def llama(self) -> str:
        """A causal language model with a chat template."""

        def make(path: Path) -> None:
            tokenizer = self._tokenizer()
            tokenizer.chat_template = _TEMPLATE
            LlamaForCausalLM(_llama_config(tokenizer)).save_pretrained(path)
            tokenizer.save_pretrained(path)

        return self._made("llama", make)

    @property
    def gguf(self) -> str:
        """The same kind of model as one GGUF file."""

        def make(path: Path) -> None:
            tokenizer = self._tokenizer()
            config = _llama_config(tokenizer)
            writer = gguf.GGUFWriter(path, "llama")
            writer.add_block_count(config.num_hidden_layers)
            writer.add_context_length(config.max_position_embeddings)
            writer.add_embedding_length(config.hidden_size)
            writer.add_feed_forward_length(config.intermediate_size)
            writer.add_head_count(config.num_attention_heads)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
            writer.add_rope_dimension_count(config.head_dim)
            writer.add_vocab_size(config.vocab_size)
            trained = json.loads(tokenizer.backend_tokenizer.to_str())
            merges = [" ".join(pair) for pair in trained["model"]["merges"]]
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
            writer.add_token_merges(merges)
            writer.add_token_types([gguf.TokenType.NORMAL] * len(tokenizer))
            writer.add_bos_token_id(tokenizer.bos_token_id)
            writer.add_eos_token_id(tokenizer.eos_token_id)
            writer.add_pad_token_id(tokenizer.pad_token_id)
            writer.add_chat_template(_TEMPLATE)
            for name, weight in _gguf_tensors(LlamaForCausalLM(config)).items():
                writer.add_tensor(name, weight)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

        return self._made("small.gguf", make)

    @property
    def resnet50(self) -> str:
        """ResNet-50 with ten classes, as safetensors."""
        return self._made(
            "r50.safetensors", lambda path: save_file(resnet50(num_classes=10).state_dict(), path)
        )

    @property
    def resnet18_places(self) -> str:
        """ResNet-18 with 365 classes, in the wrapping of Places365's checkpoint."""

        def make(path: Path) -> None:
            weights = {f"module.{k}": v for k, v in resnet18(num_classes=365).state_dict().items()}
            torch.save({"epoch": 90, "arch": "resnet18", "state_dict": weights, "best_prec1": 54.2}, path)

        return self._made("resnet18_places365.pth.tar", make)

    @property
    def tile2vec(self) -> str:
        """A Tile2Vec network for four bands."""
        return self._made("tile.ckpt", lambda path: torch.save(TileNet(4, 48, "mean").state_dict(), path))

    def _tokenizer(self, **special: list[str]) -> PreTrainedTokenizerFast:
        """A byte-level one, trained on a few texts."""
        tokenizer = Tokenizer(models.BPE(unk_token=None))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(_TEXTS, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            cls_token="<s>",
            sep_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            mask_token="<mask>",
            model_max_length=60,
            **special,
        )


def _small_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
    )


def _llama_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip


def _gguf_tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Weights under GGUF's names."""
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    found = {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output_norm.weight": model.model.norm.weight,
        "output.weight": model.lm_head.weight,
    }
    for number, layer in enumerate(model.model.layers):
        for ours, theirs in names.items():
            found[f"blk.{number}.{theirs}.weight"] = layer.get_submodule(ours).weight
    return {name: weight.detach().numpy() for name, weight in found.items()}
