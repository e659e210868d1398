from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from dnr_bench.app.composition import load_config
from dnr_bench.data.evidence import Evidence
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Scorer
from dnr_bench.scorers.combined import Combined
from dnr_bench.scorers.first import First
from dnr_bench.scorers.images import ImageProducts, TopKSquaredImageProducts
from dnr_bench.scorers.posterior import Posterior
from dnr_bench.scorers.prior import Prior
from dnr_bench.scorers.probe import ProbeCorrelation
from dnr_bench.scorers.ranking import mid_ranks
from dnr_bench.scorers.ranks import MeanRank, MedianRank, SquaredMeanRank, TopKSquaredRank
from dnr_bench.scorers.topk import Semantic, TopKLog
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "conf" / "scorer").glob("*.yaml"))
SCORERS: dict[str, Scorer] = {name: instantiate(load_config(f"scorer={name}").scorer) for name in NAMES}


def evidence(
    activations,
    image_image=None,
    image_text=None,
    exemplar_activation=2.0,
    correlation=None,
    prior=None,
    shows=None,
    typical=0.0,
) -> Evidence:
    activations = np.asarray(activations, float)
    if image_image is None:
        image_image = np.where(np.isnan(activations), np.nan, 0.5)
    if image_text is None:
        image_text = np.full(len(activations), 0.5)
    if correlation is None:
        correlation = np.full(len(activations), 0.25)
    return Evidence(
        activations,
        np.asarray(image_image, float),
        np.asarray(image_text, float),
        exemplar_activation,
        np.asarray(correlation, float),
        np.full(len(activations), 0.25) if prior is None else np.asarray(prior, float),
        ~np.isnan(activations) if shows is None else np.asarray(shows, bool),
        typical,
    )


def test_only_the_best_images_count_wherever_they_stand() -> None:
    activations, likeness = [[0, 1, 9, 8], [2, 3, 2, 3]], [[0.1, 0.1, 0.9, 0.7], [0.5, 0.5, 0.5, 0.5]]
    found = evidence(activations, likeness)
    assert ImageProducts(t=2).score(found) == pytest.approx([0.8, 0.5])
    assert TopKLog(k=2, normalize="none", as_printed=False).score(found) == pytest.approx(
        [np.log(90) / 2, np.log(4)]
    )
    assert TopKSquaredRank(beta=2).score(found) == pytest.approx([-(1 + 4) / 2, -(3.5**2)])


#: Ranks: 6 -> 1, 5 -> 2, 3 and 3 -> 3.5, 1 -> 5, 0 -> 6.
HAND = evidence([[6, 3, 0], [5, 3, 1]], [[0.9, 0.5, 0.1], [0.4, 0.8, 0.6]], [0.6, -0.2], 2.0, [0.3, 0.7])


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        (MeanRank(), [-(1 + 3.5 + 6) / 3, -(2 + 3.5 + 5) / 3]),
        (MedianRank(), [-3.5, -3.5]),
        (SquaredMeanRank(), [-(1 + 12.25 + 36) / 3, -(4 + 12.25 + 25) / 3]),
        (TopKSquaredRank(beta=2), [-(1 + 12.25) / 2, -(4 + 12.25) / 2]),
        (TopKSquaredRank(beta=99), [-(1 + 12.25 + 36) / 3, -(4 + 12.25 + 25) / 3]),
        (ImageProducts(t=2), [0.7, 0.6]),
        (ImageProducts(t=10), [0.5, 0.6]),
        (TopKSquaredImageProducts(beta=2, t=2, as_printed=False), [2 * 0.7, 1 * 0.6]),
        (TopKSquaredImageProducts(beta=2, t=2, as_printed=True), [1 * 0.7, 0]),
        (
            TopKLog(k=2, normalize="none", as_printed=False),
            [(np.log(7) + np.log(4)) / 2, (np.log(6) + np.log(4)) / 2],
        ),
        (TopKLog(k=1, normalize="exemplar", as_printed=False), [np.log(4), np.log(3.5)]),
        (Semantic(alpha=0.7, k=2, normalize="none", as_printed=False), [0.7 * 4.5 + 0.3 * 0.36, 0.7 * 4]),
        (Semantic(alpha=0.0, k=2, normalize="none", as_printed=False), [0.36, 0]),
        (Semantic(alpha=1, k=1, normalize="exemplar", as_printed=False), [3, 2.5]),
        (ProbeCorrelation(), [0.3, 0.7]),
        (Combined({"squared": SquaredMeanRank(), "probe": ProbeCorrelation()}, {}), [-2, 2]),
        (Combined({"squared": SquaredMeanRank(), "probe": ProbeCorrelation()}, {"probe": 0.5}), [-1.5, 1.5]),
        (Combined({"median": MedianRank()}, {"median": 3}), [0, 0]),
    ],
)
def test_scores_by_hand(scorer: Scorer, expected: list[float]) -> None:
    assert scorer.score(HAND) == pytest.approx(expected)


def test_mid_ranks_agree_with_scipy() -> None:
    values = np.random.default_rng(0).integers(0, 9, (4, 6)).astype(float)
    expected = np.sort(rankdata(-values.ravel()).reshape(4, 6), axis=1)
    assert np.array_equal(mid_ranks(values), expected)


def test_a_negative_product_never_wins_unless_as_printed() -> None:
    bad_but_active = evidence([[9, 9], [1, 1]], [[-0.5, -0.5], [0.1, 0.1]])
    scores = TopKSquaredImageProducts(beta=5, t=10, as_printed=False).score(bad_but_active)
    assert scores[0] == 0 < scores[1]
    assert TopKSquaredImageProducts(beta=5, t=10, as_printed=True).score(bad_but_active)[0] < 0


def test_log_ties_go_to_the_higher_mean() -> None:
    scores = TopKLog(k=2, normalize="none", as_printed=False).score(evidence([[-3, -1], [-2, -1], [-5, -1]]))
    assert list(np.argsort(-scores)) == [1, 0, 2]
    assert scores == pytest.approx([0, 0, 0])


values = arrays(np.float64, (4, 12), elements=st.floats(-50, 50).map(lambda v: round(v, 2)))


def test_broken_ties_weigh_nothing_in_a_sum() -> None:
    never = evidence([[-2.0, -2.0], [-1.0, -1.0]], correlation=[0.7, 0.3])
    part = TopKLog(k=2, normalize="none", as_printed=False).score(never)
    assert part[1] > part[0]  # both never fire: a tie, broken by the mean
    scores = Combined(
        {"log": TopKLog(k=2, normalize="none", as_printed=False), "probe": ProbeCorrelation()}, {}
    ).score(never)
    assert scores == pytest.approx([1.0, -1.0])


def test_first_keeps_the_order_of_the_list() -> None:
    scores = First().score(evidence([[1.0, 2.0], [9.0, 9.0], [np.nan, np.nan], [5.0, np.nan]]))
    assert list(np.argsort(-scores, kind="stable")) == [0, 1, 3, 2]
    assert np.isnan(scores[2])


def test_images_that_show_the_concept_correct_what_captions_say() -> None:
    by = Posterior(weight=0.5, halfway=2)
    given = evidence([[0.0, 0.0], [3.0, 3.0]], prior=[0.6, 0.3], exemplar_activation=2.0)
    assert by.score(given) == pytest.approx([0.75 * 1 + 0.25 * 0, 0.75 * 0.5 + 0.25 * 1])
    many = evidence([[0.0] * 38, [3.0] * 38], prior=[0.6, 0.4], exemplar_activation=2.0)
    scores = by.score(many)
    assert scores[1] > scores[0]


def test_images_that_do_not_show_the_concept_say_nothing() -> None:
    by = Posterior(weight=0.5, halfway=2)
    nothing = [[False] * 2, [False] * 2]
    given = evidence([[0.0, 0.0], [9.0, 9.0]], prior=[0.6, 0.3], shows=nothing)
    assert by.score(given) == pytest.approx([1.0, 0.5])
    assert np.argmax(by.score(evidence([[0.0], [9.0]], prior=[0.6, 0.3], shows=[[True], [False]]))) == 0


def test_the_first_candidate_of_captions_keeps_its_place_against_those_without_images() -> None:
    """However its own images fare between typical and exemplar height, half of the prior remains."""
    given = evidence([[1.9] * 9, [0.0] * 9], prior=[0.5, 0.45], shows=[[True] * 9, [False] * 9])
    assert np.argmax(Posterior(weight=0.5, halfway=2).score(given)) == 0


def test_without_captions_the_response_decides_and_without_images_nothing() -> None:
    given = evidence([[1.0], [2.0], [np.nan]], prior=[np.nan] * 3, typical=0.0, exemplar_activation=2.0)
    assert Posterior(weight=0.5, halfway=2).score(given) == pytest.approx([0.5, 1.0, np.nan], nan_ok=True)
    assert Prior().score(given).tolist() == [0.0, 0.0, 0.0]
    unseen = evidence([[1.0], [2.0]], prior=[np.nan] * 2, shows=[[False], [False]], exemplar_activation=2.0)
    assert Posterior(weight=0.5, halfway=2).score(unseen) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "first"])  # it looks at the order alone
class TestEveryScorer:
    @given(values=values, order=st.permutations(range(4)))
    def test_scores_follow_their_candidates(self, name: str, values: np.ndarray, order: list[int]) -> None:
        likeness, text, real = np.tanh(values[::-1]), np.tanh(values[:, 0]), np.tanh(values[:, 1])
        scores = SCORERS[name].score(evidence(values, likeness, text, correlation=real))
        moved = SCORERS[name].score(
            evidence(values[order], likeness[order], text[order], correlation=real[order])
        )
        assert moved == pytest.approx(scores[order], abs=1e-9)

    @given(values=values, order=st.permutations(range(12)))
    def test_the_order_of_images_does_not_matter(
        self, name: str, values: np.ndarray, order: list[int]
    ) -> None:
        values = values + np.linspace(0, 1e-3, values.size).reshape(values.shape)  # ties have no order
        likeness = np.tanh(values[::-1] / 9)
        scores = SCORERS[name].score(evidence(values, likeness))
        moved = SCORERS[name].score(evidence(values[:, order], likeness[:, order]))
        assert moved == pytest.approx(scores)

    @given(values=values)
    def test_a_candidate_that_leads_another_still_does_when_it_is_raised(
        self, name: str, values: np.ndarray
    ) -> None:
        before = SCORERS[name].score(evidence(values))
        raised = values.copy()
        raised[0] += 7
        after = SCORERS[name].score(evidence(raised))
        led = before[0] >= before[1:]
        assert np.all(after[0] >= after[1:][led] - 1e-9)

    @given(values=values)
    def test_a_concept_that_stands_twice_scores_twice_the_same(self, name: str, values: np.ndarray) -> None:
        values = np.vstack([values, values[:1]])
        likeness = np.tanh(values / 9)
        scores = SCORERS[name].score(evidence(values, likeness, likeness[:, 0], correlation=likeness[:, 1]))
        assert scores[-1] == pytest.approx(scores[0])

    @given(value=st.floats(-50, 50), n=st.integers(1, 5))
    def test_a_dead_neuron_prefers_nothing(self, name: str, value: float, n: int) -> None:
        scores = SCORERS[name].score(evidence(np.full((n, 4), value), exemplar_activation=value))
        assert np.isfinite(scores).all()
        assert scores == pytest.approx(np.full(n, scores[0]))

    @given(values=values, n=st.integers(1, 4))
    def test_any_number_of_candidates_and_negative_activations_have_scores(
        self, name: str, values: np.ndarray, n: int
    ) -> None:
        assert np.isfinite(SCORERS[name].score(evidence(-np.abs(values[:n])))).all()

    def test_a_candidate_without_images_is_unscored_and_cannot_win(self, name: str) -> None:
        if "prior" in SCORERS[name].needs:
            pytest.skip("captions speak for it")
        scores = SCORERS[name].score(evidence([[1, 2], [np.nan, np.nan], [3, np.nan]]))
        assert np.isnan(scores[1])
        assert np.isfinite(scores[[0, 2]]).all()

    def test_evidence_is_left_as_it_was(self, name: str) -> None:
        before = HAND.activations.copy(), HAND.image_image.copy(), HAND.image_text.copy()
        SCORERS[name].score(HAND)
        assert all(map(np.array_equal, before, (HAND.activations, HAND.image_image, HAND.image_text)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Semantic(alpha=2, k=5, normalize="none", as_printed=False), r"alpha=2 must lie in 0\.\.1"),
        (lambda: TopKLog(k=0, normalize="none", as_printed=False), "k=0 must be at least 1"),
        (lambda: TopKSquaredRank(beta=-1), "beta=-1 must be at least 1"),
        (lambda: ImageProducts(t=0), "t=0 must be at least 1"),
        (lambda: Combined({}, {}), "scorers is empty"),
        (lambda: Combined({"mean": MeanRank()}, {"median": 1.0}), r"no scorer \['median'\]; scorers are"),
        (
            lambda: Combined({"mean": MeanRank()}, {"mean": float("nan")}),
            r"weights\.mean=nan must lie in",
        ),
    ],
)
def test_values_out_of_range_are_refused(build, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


def test_as_printed_logarithms_and_squares_are_not_clamped() -> None:
    found = TopKLog(k=2, normalize="none", as_printed=True).score(evidence([[3, -0.5], [8, -1], [1, 0]]))
    assert found[[0, 2]] == pytest.approx([(np.log(4) + np.log(0.5)) / 2, np.log(2) / 2])
    assert np.isnan(found[1])  # log(0)
    opposite = replace(evidence([[1.0], [1.0]]), image_text=np.asarray([-0.6, 0.2]))
    clamped, printed = (
        Semantic(alpha=0.5, k=1, normalize="none", as_printed=flag).score(opposite) for flag in (False, True)
    )
    assert clamped == pytest.approx([0.5, 0.5 + 0.02])
    assert printed == pytest.approx([0.5 + 0.18, 0.5 + 0.02])
