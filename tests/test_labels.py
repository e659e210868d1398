from __future__ import annotations

from math import inf

import numpy as np
import pytest

from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.abstention import drive
from dnr_bench.methods.labeling import LabelSettings, first_distinct

VECTORS = np.array([[1.0, 0.0], [0.9, np.sqrt(1 - 0.81)], [0.0, 1.0], [-1.0, 0.0]])


def settings(n: int, max_label_cosine: float = 0.81) -> LabelSettings:
    return LabelSettings(n, max_label_cosine)


def test_labels_too_close_to_a_better_one_are_left_out() -> None:
    texts = ["red", "reddish", "star", "blue"]
    assert first_distinct(texts, VECTORS, settings(3)) == ("red", "star", "blue")
    assert first_distinct(texts, VECTORS, settings(2)) == ("red", "star")
    assert first_distinct(texts, VECTORS, settings(9, max_label_cosine=0.95)) == tuple(texts)
    assert first_distinct(texts, VECTORS, settings(9, max_label_cosine=0)) == ("red", "star", "blue")
    assert first_distinct(texts, None, settings(1)) == ("red",)


def test_a_neuron_is_driven_where_its_own_concept_stands_out() -> None:
    means = np.array([0.0, 0.2, 0.4, 3.0])
    assert 0.65 < drive(means, own=3, exemplar_activation=4.0) < 0.75
    assert drive(means, own=3, exemplar_activation=-4.0) < 0.75  # it never fires
    assert drive(means, own=0, exemplar_activation=4.0) < 0
    assert drive(np.array([1.0, 1.0, 1.0]), own=0, exemplar_activation=1.0) == 0
    assert drive(np.array([1.0, 1.0]), own=0, exemplar_activation=1.0) == inf  # one other says nothing
    assert drive(means, own=3, exemplar_activation=0.0) == inf


@pytest.mark.parametrize(
    ("values", "message"), [((0, 0.8), "n_labels=0"), ((1, 1.5), "max_label_cosine=1.5")]
)
def test_wrong_settings_are_named(values: tuple[int, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LabelSettings(*values)
