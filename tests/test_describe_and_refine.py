"""What Describe-and-Refine and CLEAR add: iterations, concepts of the user, labels, perturbed images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnr_bench.app.commands.try_concept import main, try_concept
from dnr_bench.app.run import RunConfig, RunResult, run
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.method import DEAD, NOT_DRIVEN
from dnr_bench.methods.describe_and_dissect.refinement import LAST_ITERATION, NO_NEW_CONCEPT, NO_PROGRESS
from tests.conftest import SMALL

BuildRun = Callable[..., RunConfig]
REFINED = ("refine=iterative", "refine.max_iterations=2", "refine.threshold=0.05")


def records(result: RunResult) -> dict[int, dict[str, Any]]:
    return {record.unit: record for record in result.neurons if not record.unscored}


def computed(result: RunResult) -> int:
    return sum(stage.misses for stage in result.stages.values())


@pytest.mark.slow
def test_refinement_adds_concepts_to_those_of_the_exemplars(small_run: BuildRun) -> None:
    plain, refined = run(small_run()), run(small_run(*REFINED))
    added = 0
    for unit, record in records(refined).items():
        before = records(plain)[unit]
        course, origins = record.refinement, {c.text: c.origin for c in record.candidates}
        assert before.refinement is None
        assert course.answers[0] == before.labels[0]  # the answer before is Describe-and-Dissect's
        assert course.answers[-1] == record.labels[0]
        assert course.stopped in (LAST_ITERATION, NO_NEW_CONCEPT, NO_PROGRESS)
        assert {c.text for c in before.candidates} <= origins.keys()
        new = [c for c in record.candidates if c.origin == "refined"]
        assert all(1 <= c.iteration <= len(course.progress) for c in new)
        assert bool(new) == bool(course.progress)
        added += len(new)
    assert added > 0
    assert refined.metrics["refinement.iterations"].n == len(records(refined))
    curves = refined.curves
    assert [len(curves[f"refine.{name}"]) for name in ("neurons", "progress", "new_answers")] == [2, 2, 2]
    assert curves["refine.neurons"][0] >= curves["refine.neurons"][1] > 0
    assert computed(run(small_run(*REFINED))) == 0


@pytest.mark.slow
def test_each_neuron_is_refined_on_its_own(small_run: BuildRun) -> None:
    together = records(run(small_run(*REFINED, "evaluator=[]")))
    config = small_run(*REFINED, "evaluator=[]", store="other")
    alone = records(run(replace(config, neurons=[Neuron("concepts", 27), Neuron("concepts", 13)])))
    for unit in (13, 27):
        assert [c.text for c in alone[unit].candidates] == [c.text for c in together[unit].candidates]
        assert alone[unit].refinement.progress == pytest.approx(together[unit].refinement.progress, abs=1e-5)


@pytest.mark.slow
def test_images_for_the_fresh_comparison_helped_no_concept_to_win(small_run: BuildRun) -> None:
    config = small_run(*REFINED, "neurons.units=[20]", "evaluator=[]", store="new")
    drawn: list[int] = []
    generate = config.generator.generate

    def noting(prompts: list[str], seeds: list[int], numbers: list[int]):
        drawn.extend(seeds)
        return generate(prompts, seeds, numbers)

    config.generator.generate = noting
    run(config)
    used, neuron = set(drawn), Neuron("concepts", 20)
    drawn.clear()
    session = config.session()
    session.scores({neuron: ["red", "striped ring"]}, config.method.scorer, fresh=True)
    assert drawn
    assert not used & set(drawn)


def test_scores_on_the_probing_set_are_never_called_fresh(small_run: BuildRun) -> None:
    result = run(small_run(*REFINED, "scorer=probe_correlation", "neurons.units=[13,20,27]"))
    assert "refinement.changed" in result.metrics
    assert not {"refinement.fresh_wins", "refinement.fresh_gain"} & result.metrics.keys()


def test_concepts_of_the_user_are_tagged_and_can_win(small_run: BuildRun, tmp_path: Path) -> None:
    (tmp_path / "colors.txt").write_text("red\nblue\ngreen\norange\npurple\n")
    machine = ("captioner=clip_concepts", f"captioner.concepts={tmp_path / 'colors.txt'}")
    result = run(small_run(*machine, "user_concepts=[Red,a striped ring,nonsense words]"))
    found = records(result)
    for record in found.values():
        origins = {c.text.casefold(): c.origin for c in record.candidates}
        assert origins["a striped ring"] == origins["nonsense words"] == "user"
        assert origins["red"] in ("user", "both")
    red = next(record for record in found.values() if record.truth == "red")
    ring = next(record for record in found.values() if record.truth == "striped ring")
    assert red.candidates[0].origin == "both"  # the machine says it, too
    assert ring.labels == ("a striped ring",)  # which no captioner of colors could say
    values = {unit: record.values for unit, record in found.items()}
    assert values[ring.unit]["user_concepts.won"] == 1
    assert values[ring.unit]["user_concepts.margin"] > 0
    assert values[red.unit]["user_concepts.won"] == 0
    assert result.metrics["user_concepts.won"].n == len(found)


def test_a_file_gives_concepts_to_single_neurons(small_run: BuildRun, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("layer,unit,concept\nconcepts,9,a purple cow\n")
    found = records(run(small_run(f"user_concepts={tmp_path / 'mine.csv'}", "evaluator=[]")))
    tagged = {unit for unit, r in found.items() if any(c.origin == "user" for c in r.candidates)}
    assert tagged == {9}


@pytest.mark.slow
def test_several_labels_are_a_ranked_list_of_distinct_ones(small_run: BuildRun) -> None:
    one, three = (
        run(small_run("evaluator=[]")),
        run(small_run("evaluator=[]", "n_labels=3", "max_label_cosine=0.6")),
    )
    alike = run(small_run("evaluator=[]", "n_labels=3", "max_label_cosine=1"))
    for unit, record in records(three).items():
        texts = [c.text for c in record.candidates]
        assert record.labels[0] == records(one)[unit].labels[0]
        assert record.labels == tuple(text for text in texts if text in record.labels)
        assert records(alike)[unit].labels == tuple(texts[:3])
    lengths = [sum(len(r.labels) for r in records(result).values()) for result in (one, three, alike)]
    assert lengths[0] < lengths[1] < lengths[2]


@pytest.mark.slow
def test_a_neuron_that_no_concept_drives_gets_no_label(small_run: BuildRun) -> None:
    layer = ("neurons.units=all", "probe.n_images=1000", "n_candidates=2", "captioner=dataset")
    result = run(small_run("abstain_margin=0.6", *layer, "evaluator=[planted]"))
    reasons = {record.unit: record.unscored for record in result.neurons}
    assert reasons[60] == DEAD
    assert reasons[62] == reasons[63] == NOT_DRIVEN  # they fire at random
    assert list(reasons.values()).count(None) >= 56
    assert result.metrics["planted.abstained_correctly"].mean == 1.0


@pytest.mark.slow
def test_levels_and_regions_of_blur_and_corruptions_are_probing_passes_of_their_own(
    small_run: BuildRun,
) -> None:
    small = ("evaluator=[]", "neurons.units=[0]", "captioner=dataset", "images_per_concept=1",
             "probe.n_images=60")  # fmt: skip
    changes = (
        ["blur=2"],
        ["blur=2", "blur_region=foreground"],
        ["blur=2", "blur_region=background"],
        ["corruption=jpeg"],
        ["corruption=jpeg", "corruption.severity=5"],
        ["corruption=noise", "blur=2"],
    )
    digests = set()
    for change in changes:
        first = run(small_run(*small, *change, store="new"))
        assert first.stages["activations"].misses == 1
        digests.add(first.probe.digest)
    again = run(small_run(*small, *changes[-1], "scorer=semantic", store="new"))
    assert again.stages["activations"].misses == 0
    assert len(digests) == len(changes)


@pytest.mark.slow
def test_the_nearest_concept_of_a_file_is_the_caption(small_run: BuildRun, tmp_path: Path) -> None:
    (tmp_path / "colors.txt").write_text("red\nblue\ngreen\n\nred\n")
    result = run(
        small_run("captioner=clip_concepts", f"captioner.concepts={tmp_path / 'colors.txt'}", "evaluator=[]")
    )
    assert records(result)[0].labels == ("red",)
    with pytest.raises(UsageError, match=r"captioner\.top=9 must lie in 1\.\.3, the number of concepts"):
        small_run(
            "captioner=clip_concepts", f"captioner.concepts={tmp_path / 'colors.txt'}", "captioner.top=9"
        )
    with pytest.raises(UsageError, match=r"captioner\.concepts='none\.txt' cannot be read"):
        small_run("captioner=clip_concepts", "captioner.concepts=none.txt")


def test_generated_images_have_no_captions_of_a_data_set(small_run: BuildRun) -> None:
    with pytest.raises(UsageError, match="it needs a captioner that is a model"):
        small_run("refine=iterative", "captioner=dataset")


@pytest.mark.slow
def test_one_concept_is_tried_from_what_is_stored(small_run: BuildRun) -> None:
    run(small_run("captioner=dataset"))
    config = small_run("captioner=dataset", "neurons.units=[0]", "evaluator=[]")
    trial = try_concept(config, Neuron("concepts", 0), "blue triangle")
    texts = [text for text, *_ in trial.rows]
    assert texts[0] == "red"
    assert texts.index("blue triangle") == trial.rank - 1 > 0
    scores = [score for _, _, score, _ in trial.rows]
    assert scores == sorted(scores, reverse=True)
    assert trial.rows
    for _, origin, _, activations in trial.rows:
        assert len(activations) == 4
        assert np.all(np.diff(activations) <= 0)
        assert origin in ("captions", "yours")
    assert try_concept(config, Neuron("concepts", 0), "red").rank == 1  # one of its own candidates
    with pytest.raises(UsageError, match=r"neuron=concepts:60 cannot be described: dead"):
        try_concept(config, Neuron("concepts", 60), "red")


def test_the_command_shows_where_the_concept_stands(
    small_run: BuildRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [*SMALL, f"paths.store={tmp_path / 'store'}", "captioner=dataset"]
    assert main(["neuron=concepts:0", "concept=a [red] thing", *small]) == 0
    shown = capsys.readouterr().out
    assert "a [red] thing has rank" in shown
    assert "yours" in shown
    with pytest.raises(UsageError, match="needed are neuron=LAYER:UNIT and concept"):
        main(["neuron=concepts:0", *small])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "dnr-bench try neuron=concepts:17" in capsys.readouterr().out
