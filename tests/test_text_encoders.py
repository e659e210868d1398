from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from bert_score import score

from dnr_bench.encoders.bert_score import BertScore
from dnr_bench.encoders.sentences import SentenceEncoder
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CHECKPOINTS


def test_sentence_embeddings_are_unit_vectors_that_follow_the_meaning() -> None:
    encoder = SentenceEncoder("embedded:sentences", device="cpu", batch_size=2)
    texts = ["red circle", "a red circle", "blue star", "striped"]
    vectors = encoder.embed_texts(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.9 > 0.3 > cosines[0, 2]
    alone = SentenceEncoder("embedded:sentences", device="cpu", batch_size=64).embed_texts(texts[2:])
    assert alone == pytest.approx(vectors[2:], abs=1e-5)


def test_bertscore_is_that_of_the_library() -> None:
    texts, references = ["red circle", "blue star", "a striped ring"], ["red circle", "red star", "ring"]
    found = BertScore("embedded:bert", layer=2, device="cpu", batch_size=2).f1(texts, references)
    _, _, expected = score(
        texts, references, model_type=str(CHECKPOINTS / "bert"), num_layers=2, device="cpu"
    )
    assert found == pytest.approx(expected.numpy(), abs=1e-5)
    assert found[0] == pytest.approx(1.0, abs=1e-5)
    assert found[0] > found[1] > 0


def test_another_layer_is_another_judge() -> None:
    one, two = (BertScore("embedded:bert", layer=n, device="cpu", batch_size=2) for n in (1, 2))
    assert one.fingerprint != two.fingerprint
    assert len(one.f1([], [])) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SentenceEncoder("embedded:clip", "cpu", 2), "has no modules.json"),
        (lambda: SentenceEncoder("nowhere", "cpu", 2), "neither a directory nor a name on the model hub"),
        (lambda: SentenceEncoder("embedded:sentences", "cpu", 0), "batch_size=0 must be at least 1"),
        (lambda: BertScore("embedded:bert", 4, "cpu", 2), r"layer=4 must lie in 1\.\.3"),
        (lambda: BertScore("embedded:bert", None, "cpu", 2), r"layer=None must lie in 1\.\.3"),
        (lambda: BertScore("./gone", 2, "cpu", 2), "neither a directory nor a name on the model hub"),
    ],
)
def test_what_is_no_encoder_is_said(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


def test_a_folder_whose_name_bert_score_would_mistake_is_loaded_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "project5"
    copytree(CHECKPOINTS / "bert", folder)
    plain = BertScore("embedded:bert", 2, "cpu", 2)
    assert BertScore(str(folder), 2, "cpu", 2).f1(["red"], ["blue"]) == plain.f1(["red"], ["blue"])
