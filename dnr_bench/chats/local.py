"""Local language models through transformers: directories, names on the hub, and GGUF files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dnr_bench.data.chat import Answer, Question
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, take_turn, torch_dtype
from dnr_bench.infra.digests import content_digest, digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import model_directory, short_name
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range


@dataclass(frozen=True)
class LanguageModel:
    """A model of transformers and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def ends(self) -> set[int]:
        """The tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        known = ends if isinstance(ends, list) else [ends]
        return {*known, self.tokenizer.eos_token_id}


class LocalChat:
    """Answers of at most `max_tokens` tokens. `checkpoint`: a directory, a .gguf file or a name on the hub.

    An answer depends on its question and seed, not on what else is asked: each has a random stream of its
    own. Questions of like length share batches.
    """

    def __init__(self, checkpoint: str, max_tokens: int, device: str, dtype: Dtype, batch_size: int) -> None:
        check_range(1, 65536, max_tokens=max_tokens)
        self.device, self.batches = checked_device(device), Batches(batch_size, device)
        self.name, self.max_tokens = short_name(checkpoint), max_tokens
        path, options, weights = located(checkpoint)
        self._loaded = OnDemand(lambda: load_language_model(path, options, dtype, checkpoint))
        self.fingerprint = digest(
            {
                "weights": weights,
                "max_tokens": max_tokens,
                "dtype": dtype,
                "transformers": version("transformers"),
            }
        )

    def check(self) -> None:
        """Nothing can be missing."""

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers batch by batch; questions about images raise `UsageError`."""
        if any(question.images for question in questions):
            raise UsageError(
                f"{self.name} is a model of texts and sees no images; ask a server (base_url=...)"
            )
        prompts = [self._prompt(question) for question in questions]
        order = sorted(range(len(questions)), key=lambda i: (len(prompts[i]), i))
        for found in self.batches.over(order, lambda block: self._answered(block, prompts, questions)):
            yield from found

    def _prompt(self, question: Question) -> str:
        tokenizer = self._loaded().tokenizer
        if tokenizer.chat_template is None:
            return question.text
        message = [{"role": "user", "content": question.text}]
        prompt: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return prompt

    def _answered(
        self, block: Sequence[int], prompts: Sequence[str], questions: Sequence[Question]
    ) -> list[tuple[int, Answer]]:
        import torch
        from transformers import LogitsProcessorList

        from dnr_bench.chats.noise import Sampling

        loaded = self._loaded()
        tokenizer, ends = loaded.tokenizer, loaded.ends
        take_turn(loaded.model, self.device)
        started = time.time()
        # a chat template writes the special tokens itself
        special = tokenizer.chat_template is None
        inputs = tokenizer(
            [prompts[i] for i in block], return_tensors="pt", padding=True, add_special_tokens=special
        ).to(self.device)
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = loaded.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.max_tokens,
                do_sample=False,  # the noise samples
                logits_processor=LogitsProcessorList([Sampling([questions[i] for i in block])]),
                pad_token_id=tokenizer.pad_token_id,
            )[:, length:].cpu()
        seconds = (time.time() - started) / len(block)
        found = []
        for row, index in enumerate(block):
            tokens = output[row].tolist()
            stop = next((place for place, token in enumerate(tokens) if token in ends), None)
            kept = tokens if stop is None else tokens[:stop]
            answer = Answer(
                text=tokenizer.decode(kept, skip_special_tokens=True),
                stopped="length" if stop is None else "stop",
                prompt_tokens=int(inputs["attention_mask"][row].sum()),
                completion_tokens=len(kept),
                dollars=0.0,
                started=started,
                seconds=seconds,
            )
            found.append((index, answer))
        return found


def load_language_model(
    path: Path, options: Mapping[str, Any], dtype: Dtype, checkpoint: str
) -> LanguageModel:
    """The model in a folder; anything else there raises `UsageError`."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # of loading
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, padding_side="left", **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch_dtype(dtype), **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"checkpoint={checkpoint!r} is no causal language model: {reason}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LanguageModel(model.eval(), tokenizer)


def located(checkpoint: str) -> tuple[Path, Mapping[str, str], str]:
    """A model's folder, what transformers must be told to find it there, and what identifies its weights."""
    file = Path(checkpoint)
    if file.suffix != ".gguf":
        path, weights = model_directory(checkpoint)
        return path, {}, weights
    if not file.is_file():
        raise UsageError(f"checkpoint={checkpoint!r} is no file")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise UsageError(f"checkpoint={checkpoint!r} is no causal language model: it is no GGUF file")
    return file.parent, {"gguf_file": file.name}, content_digest(file)
