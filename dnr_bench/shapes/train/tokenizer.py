"""The small word tokenizer that all embedded text models share."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from dnr_bench.shapes.phrases import WORDS

#: [SEP] has the highest id: open_clip pools a text at the argmax of its ids.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]", "[DEC]")
VOCABULARY = {token: index for index, token in enumerate((*SPECIAL, *WORDS, "[SEP]"))}


def build_tokenizer(start: str = "[CLS]") -> PreTrainedTokenizerFast:
    """Whole lower-case words, `start` before and [SEP] after them; other words become [UNK]."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A [SEP]",
        pair=f"{start} $A [SEP] $B [SEP]",
        special_tokens=[(start, VOCABULARY[start]), ("[SEP]", VOCABULARY["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=40,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token=start,
        eos_token="[SEP]",
    )
