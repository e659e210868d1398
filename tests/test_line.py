"""refine=line: the consensus of words, a chat model that sees the history, and scores against controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.line import Line
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.methods.describe_and_dissect.refinement import LAST_ITERATION, NO_NEW_CONCEPT
from dnr_bench.statistics.detection import cosy_auc
from dnr_bench.summarizers.from_history import WordConsensus
from tests.helpers.chat_server import KEY, chat_server

BuildRun = Callable[..., RunConfig]
WORDS = ("refine=line", "evaluator=[planted]", "refine.iterations=2", "neurons.units=[0,27,60]")


def consensus(small_run: BuildRun) -> WordConsensus:
    method = small_run(*WORDS).method
    assert isinstance(method, DescribeAndDissect)
    assert isinstance(method.refinement, Line)
    assert isinstance(method.refinement.proposer, WordConsensus)
    return method.refinement.proposer


def test_words_of_good_concepts_are_combined_anew(small_run: BuildRun) -> None:
    proposer = consensus(small_run)
    history = [("red striped circle", 0.9), ("red square", 0.85), ("blue ring", 0.5)]
    (found,) = proposer.next_concepts([history], 20, 0)
    assert found[:3] == ["red striped", "red circle", "striped circle"]  # the best one without a word
    assert "red striped circle or blue ring" in found
    assert not {"red striped circle", "red square", "blue ring"} & set(found)
    assert proposer.next_concepts([history], 2, 0) == [found[:2]]
    assert proposer.next_concepts([[]], 5, 0) == [[]]


def test_what_was_tried_in_other_words_is_not_tried_again(small_run: BuildRun) -> None:
    history = [("striped ring", 0.9), ("rings", 0.8), ("stripes", 0.7)]
    (found,) = consensus(small_run).next_concepts([history], 20, 0)
    assert found == []


@pytest.mark.slow
def test_the_answer_is_the_best_of_the_history_against_the_controls(small_run: BuildRun) -> None:
    config = small_run(*WORDS, "refine.n_controls=6")
    result = run(config)
    session, method = config.session(), config.method
    assert isinstance(method, DescribeAndDissect)
    assert isinstance(method.refinement, Line)
    controls = method.refinement._controls(session)["concepts"]
    assert controls.shape[0] == 6 * 4
    for neuron in result.neurons[:2]:
        assert neuron.refinement is not None
        assert neuron.refinement.stopped in (LAST_ITERATION, NO_NEW_CONCEPT)
        assert neuron.labels[0] == neuron.candidates[0].text == neuron.refinement.answers[-1]
        assert neuron.candidates[0].score == max(c.score for c in neuron.candidates)
        for drawn in session.draw([c.text for c in neuron.candidates]):
            wanted = cosy_auc(drawn.activations["concepts"][:, [neuron.unit]], controls[:, [neuron.unit]])[0]
            score = next(c.score for c in neuron.candidates if c.text == drawn.concept)
            assert score == pytest.approx(wanted)
    assert result.neurons[2].unscored.startswith("dead")
    assert any(c.origin == "refined" for n in result.neurons for c in n.candidates)
    spread = run(small_run(*WORDS, "refine.measure=mad"))
    assert max(n.score for n in spread.neurons if n.score is not None) > 1.5  # standard deviations


@pytest.mark.slow
def test_units_that_are_constant_on_all_controls_have_no_deviation(small_run: BuildRun) -> None:
    words = ("target=sae", "neurons.layers=[sae]", "neurons.units=0-11", "refine=line", "evaluator=[]")
    config = small_run(*words, "refine.measure=mad", "refine.n_controls=2", "refine.iterations=1")
    found = config.method.explain(config.neurons, config.session())
    assert any(e.unscored == "no candidate could be scored" for e in found)
    with pytest.raises(UsageError, match="n_controls=999"):
        small_run(*words, "refine.n_controls=999")


def test_captions_of_the_data_set_will_do(small_run: BuildRun) -> None:
    result = run(small_run(*WORDS, "captioner=dataset"))
    assert result.neurons[0].labels


@pytest.mark.slow
def test_a_chat_model_is_told_the_history_and_pays_once(
    small_run: BuildRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with chat_server() as server:
        words = [
            *("refine=line_openai", "evaluator=[planted]", "refine.iterations=1", "neurons.units=[0]"),
            f"refine.proposer.chat.base_url={server.url}",
        ]
        first = run(small_run(*words, store="own"))
        asked = len(server.requests)
        again = run(small_run(*words, store="own"))
    assert asked > 0
    assert len(server.requests) == asked
    assert any(c.text.endswith(" things") for c in first.neurons[0].candidates)
    assert first.usage["refine"].asked == asked
    assert again.usage["refine"].stored == asked
    shown = str(server.requests[0])
    assert "Already tried:" in shown
    assert ": 0." in shown or ": 1.00" in shown


def test_settings_that_make_no_sense_are_refused(small_run: BuildRun, tmp_path: Path) -> None:
    for word in ("refine.iterations=0", "refine.n_controls=1", "refine.measure=mean"):
        with pytest.raises(UsageError, match=word.partition("=")[0]):
            small_run(*WORDS, word)
