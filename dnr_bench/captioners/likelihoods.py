"""How likely descriptions are: of images under a BLIP, and of no image at all (Hernandez et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from dnr_bench.captioners.blip import check_family, load_blip
from dnr_bench.chats.local import load_language_model, located
from dnr_bench.data.images import View
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, stacked, take_turn, torch_dtype
from dnr_bench.infra.digests import digest
from dnr_bench.infra.hub import model_directory
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range

if TYPE_CHECKING:
    from torch import Tensor


class BlipLikelihoods:
    """Descriptions of a neuron's regions together, and their log likelihood, by one BLIP.

    log p(d | regions) is the mean over regions of log p(d | region): the likeliest description is the one
    that fits all of them, so it does not name what only one of them shows.

    checkpoint: a directory or a name on the hub. max_new_tokens: of a description. batch_size: texts whose
    prior is computed at a time; the search takes a row of the decoder for each region and beam of a neuron.
    """

    def __init__(
        self, checkpoint: str, max_new_tokens: int, device: str, dtype: Dtype, batch_size: int
    ) -> None:
        check_range(1, 4096, max_new_tokens=max_new_tokens)
        self.device, self.dtype, self.max_new_tokens = checked_device(device), dtype, max_new_tokens
        self.batches = Batches(batch_size, device)
        path, weights = model_directory(checkpoint)
        check_family(path, "blip", checkpoint)
        self._blip = OnDemand(lambda: load_blip(path, "blip", dtype, checkpoint))
        self.fingerprint = digest(
            {
                "weights": weights,
                "max_new_tokens": max_new_tokens,
                "dtype": dtype,
                "transformers": version("transformers"),
            }
        )

    def likeliest(self, regions: Sequence[View], n: int) -> list[tuple[str, float]]:
        """The `n` likeliest descriptions of some regions by beam search, each with its log likelihood."""
        import torch
        from transformers import LogitsProcessorList

        from dnr_bench.captioners.together import Together

        blip = self._blip()
        take_turn(blip.model, self.device)
        values = stacked([blip.pixels(view) for view in regions], self.device)
        decoder, config = blip.model.text_decoder, blip.model.config.text_config
        with torch.inference_mode():
            seen = blip.model.vision_model(values.to(self.device).to(torch_dtype(self.dtype)))[0]
            start = torch.full((len(regions), 1), config.bos_token_id, device=self.device)
            found = decoder.generate(
                input_ids=start,
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=self.device),
                eos_token_id=config.sep_token_id,
                pad_token_id=config.pad_token_id,
                max_new_tokens=self.max_new_tokens,
                num_beams=n,
                num_return_sequences=n,
                length_penalty=0.0,  # the sum of log probabilities, and not their mean
                do_sample=False,
                logits_processor=LogitsProcessorList([Together(len(regions))]),
                return_dict_in_generate=True,
                output_scores=True,
            )
        texts = blip.processor.batch_decode(found.sequences[:n], skip_special_tokens=True)
        best: dict[str, float] = {}
        for text, value in zip(texts, found.sequences_scores[:n].tolist(), strict=True):
            best.setdefault(" ".join(text.split()), float(value))
        return [(text, value) for text, value in best.items() if text]

    def log_priors(self, texts: Sequence[str]) -> list[float]:
        """log p of each text for the decoder that sees no image."""
        blip = self._blip()
        config = blip.model.config.text_config

        def priors(block: Sequence[str]) -> list[float]:
            asked = blip.processor.tokenizer(list(block), return_tensors="pt", padding=True)
            tokens, mask = asked["input_ids"].to(self.device), asked["attention_mask"].to(self.device)
            tokens[:, 0] = config.bos_token_id
            take_turn(blip.model, self.device)
            return _log_likelihoods(blip.model.text_decoder, tokens, mask)

        return [value for block in self.batches.over(texts, priors) for value in block]


class LanguageModelPrior:
    """log p of texts for a causal language model; `checkpoint`: a directory, a .gguf file or a hub's name."""

    def __init__(self, checkpoint: str, device: str, dtype: Dtype, batch_size: int) -> None:
        self.device, self.batches = checked_device(device), Batches(batch_size, device)
        path, options, weights = located(checkpoint)
        self._loaded = OnDemand(lambda: load_language_model(path, options, dtype, checkpoint))
        self.fingerprint = digest(
            {"weights": weights, "dtype": dtype, "transformers": version("transformers")}
        )

    def log_priors(self, texts: Sequence[str]) -> list[float]:
        """log p of each text, its end included."""
        loaded = self._loaded()
        tokenizer = loaded.tokenizer
        first = tokenizer.bos_token or tokenizer.eos_token or ""

        def priors(block: Sequence[str]) -> list[float]:
            whole = [f"{first}{text}{tokenizer.eos_token or ''}" for text in block]
            asked = tokenizer(
                whole, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
            )
            take_turn(loaded.model, self.device)
            return _log_likelihoods(
                loaded.model, asked["input_ids"].to(self.device), asked["attention_mask"].to(self.device)
            )

        return [value for block in self.batches.over(texts, priors) for value in block]


def reranked(
    likely: Sequence[tuple[str, float]], priors: Sequence[float], weight: float
) -> list[tuple[str, float]]:
    """The descriptions by log p(d | regions) - weight log p(d), best first (equation 4)."""
    scores = [value - weight * prior for (_, value), prior in zip(likely, priors, strict=True)]
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [(likely[i][0], float(scores[i])) for i in order]


def _log_likelihoods(model: object, tokens: Tensor, mask: Tensor) -> list[float]:
    """The sum of the log probabilities of the tokens of each row but the first."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask).logits  # type: ignore[operator]
        log = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        own = log.gather(2, tokens[:, 1:, None])[..., 0] * mask[:, 1:]
    found: list[float] = own.sum(dim=1).tolist()
    return found
