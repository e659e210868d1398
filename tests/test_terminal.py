"""What runs and multiruns print: nothing is cut at 80 columns, and details stand behind `verbose`."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.outputs.terminal.console import duration
from dnr_bench.outputs.terminal.multirun import print_comparison, print_job, print_next_multirun
from dnr_bench.outputs.terminal.run import print_next_run, print_result
from dnr_bench.results.comparison import Job, compare
from dnr_bench.results.schema import RunResult
from tests.helpers.results import metric, neuron, result

NAMES = [f"planted.quite_long_metric_name_{place}" for place in range(8)]


def of_run(value: float, n: int = 30) -> RunResult:
    """Neurons with long labels and eight headline metrics; one metric that is none."""
    candidates = tuple(ScoredCandidate(f"runner-up {place}", "captions", 0.5) for place in range(3))
    values = {name: value + place / 100 for place, name in enumerate(NAMES)}
    neurons = [
        neuron(
            unit, [f"a rather long label of unit {unit} [red]"], values, score=0.12345, candidates=candidates
        )
        for unit in range(n)
    ]
    metrics = {name: metric(mean=at, low=at - 0.1, high=at + 0.1, n=n) for name, at in values.items()}
    return result(neurons, metrics | {"planted.detail": metric(mean=0.777, n=n, headline=False)})


def printed(width: int) -> Console:
    return Console(width=width, file=StringIO(), record=True)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_a_run_is_readable_and_no_digit_is_cut(width: int, verbose: bool) -> None:
    out, found = printed(width), of_run(0.5)
    print_result(found, Path("folder"), {"scorer": "topk_log"}, out, verbose)
    text = out.export_text()
    assert "…" not in text
    for one in found.metrics.values():
        assert (f"{one.mean:.3f}" in text) == (one.headline or verbose)
    assert "[red]" in text  # of the label, not as markup
    assert ("runner-up 1" in text) == (verbose or width == 120)
    assert ("made with scorer=topk_log" in text) == verbose
    assert ("verbose=true shows all 9 metrics" in text) == (not verbose)
    assert text.count("2.0 s") == 1
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_a_multirun_shows_whole_numbers_side_by_side(width: int) -> None:
    jobs = [
        Job({"scorer": "a_scorer_with_a_name", "blur": blur}, of_run(value), None)
        for blur, value in (("0", 0.5), ("2", 0.3))
    ]
    out = printed(width)
    print_comparison(compare(jobs), {}, out)
    text = out.export_text()
    assert "…" not in text
    assert "0.500" in text
    assert "-0.200" in text
    assert max(map(len, text.splitlines())) <= width
    assert "0.570" not in text  # the eighth headline metric
    out = printed(width)
    print_comparison(compare(jobs), {"probe": "shapes"}, out, verbose=True)
    text = out.export_text()
    assert "0.570" in text
    assert "all made with probe=shapes" in text
    assert "What they took" in text


def test_few_neurons_cannot_tell_whether_a_difference_is_real() -> None:
    jobs = [Job({"blur": blur}, of_run(value, n=4), None) for blur, value in (("0", 0.5), ("2", 0.3))]
    out = printed(80)
    print_comparison(compare(jobs), {}, out)
    assert "P –" in out.export_text()


def test_a_job_says_what_it_reached_and_how_long_the_others_take() -> None:
    out = printed(80)
    print_job(of_run(0.5), Path("folder"), "about 3 min left", out)
    told = f"  {NAMES[0]} 0.500 · 30 neurons in 2.0 s · about 3 min left"
    assert out.export_text().splitlines() == [told]


def test_what_is_next_repeats_the_words_with_something_varied() -> None:
    out = printed(200)
    print_next_run(["probe.n_images=40", "blur=1"], {}, out)
    print_next_run(["scorer=semantic", "seed=4"], {}, out)
    print_next_run(["scorer.weight=0.5"], {}, out)
    print_next_multirun(["scorer=semantic,topk_log"], out)
    print_next_multirun(["scorer=semantic,topk_log", "seed=0,1"], out)
    commands = [line for line in out.export_text().splitlines() if line.startswith("  ")]
    assert [line.split("-m ")[1].rstrip("'") for line in commands] == [
        "probe.n_images=40 scorer=topk_log,semantic blur=0,2,4",
        "scorer=semantic seed=0,1,2",
        "scorer.weight=0.5 seed=0,1,2",
        "scorer=semantic,topk_log seed=0,1,2",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (99.6, "99.6 s"), (133.4, "2 min 13 s"), (7259.9, "2 h 1 min")]
)
def test_durations_are_told_as_people_do(seconds: float, told: str) -> None:
    assert duration(seconds) == told
