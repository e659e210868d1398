from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dnr_bench.data.evidence import Candidate
from dnr_bench.methods.describe_and_dissect.candidates import joined, ranked

TEXTS = st.lists(st.text("ab ", min_size=1).filter(str.strip), max_size=6)
SCORES = st.lists(st.just(float("nan")) | st.integers(-2, 2).map(float), min_size=1, max_size=8)


def test_each_concept_stands_once_as_first_written() -> None:
    machine = [Candidate("Red ring", "captions"), Candidate("star", "captions")]
    mine = [Candidate("red  ring", "user"), Candidate("blue", "user")]
    found = joined(machine, mine)
    assert [(c.text, c.origin) for c in found] == [
        ("Red ring", "both"),
        ("star", "captions"),
        ("blue", "user"),
    ]
    later = joined(found, [Candidate("blue", "refined", 2), Candidate("star", "refined", 2)])
    assert [(c.text, c.origin, c.iteration) for c in later] == [
        ("Red ring", "both", 0),
        ("star", "captions", 0),
        ("blue", "user", 0),
    ]


@given(TEXTS, TEXTS)
def test_no_concept_is_lost_and_none_stands_twice(machine: list[str], mine: list[str]) -> None:
    found = joined([Candidate(t, "captions") for t in machine], [Candidate(t, "user") for t in mine])
    names = [" ".join(c.text.casefold().split()) for c in found]
    assert len(names) == len(set(names))
    assert set(names) == {" ".join(t.casefold().split()) for t in machine + mine}
    tagged = {name for name, c in zip(names, found, strict=True) if c.origin in ("user", "both")}
    assert tagged == {" ".join(t.casefold().split()) for t in mine}


@given(SCORES)
def test_the_best_comes_first_the_earlier_in_a_tie_and_the_unscored_last(scores: list[float]) -> None:
    found = ranked([Candidate(str(i), "captions") for i in range(len(scores))], np.array(scores))
    scored = [c for c in found if c.reason is None]
    assert found == [*scored, *(c for c in found if c.reason is not None)]
    assert all(np.isnan(scores[int(c.text)]) for c in found[len(scored) :])
    for a, b in pairwise(scored):
        assert a.score > b.score or (a.score == b.score and int(a.text) < int(b.text))
    assert sorted(int(c.text) for c in found) == list(range(len(scores)))
