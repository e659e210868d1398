"""The pages of a run and a multirun: what is in them, that nothing breaks out, that browsers show them."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from dnr_bench.app.commands.report import main
from dnr_bench.app.run import run
from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.card import write_card
from dnr_bench.outputs.pages.multirun import write_comparison
from dnr_bench.outputs.pages.page import without_page
from dnr_bench.outputs.pages.run import Side, write_pair, write_report
from dnr_bench.outputs.pictures import MOST, SIZE, Pictures, Strip, Tile, take_pictures
from dnr_bench.results.comparison import Outcome, compare, read_job
from dnr_bench.results.schema import RunResult
from dnr_bench.statistics.histograms import histograms
from tests.conftest import SMALL, built_run
from tests.helpers.results import neuron, result

HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """A small run with its page, one user concept trying to break out; tests get copies of it."""
    folder = tmp_path_factory.mktemp("made") / "run"
    words = ["captioner=dataset", f'user_concepts=["{HOSTILE}"]', "evaluator=[planted,cost]"]
    config = built_run(*SMALL, f"paths.store={shared_store}", *words)
    session = config.session()
    of_run = run(config, session)
    of_run.write(folder)
    write_report(of_run, take_pictures(of_run, session, folder), folder)
    return folder


@pytest.fixture
def page(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run")) / "report.html"


def test_the_page_holds_every_neuron_and_needs_no_network(page: Path) -> None:
    html = page.read_text()
    of_run = RunResult.read(page.parent)
    assert html.count('<article class="card"') == len(of_run.neurons)
    assert of_run.neurons
    assert all(one.name in html for one in of_run.neurons)
    assert of_run.metrics
    for name, metric in of_run.metrics.items():
        assert name in html
        for control in ("best_constant", "copy"):
            assert control not in metric.controls or f"{metric.controls[control]:.3f}" in html
    assert any("copy" in metric.controls for metric in of_run.metrics.values())
    assert "dead: the same activation on every probing image" in html
    assert not re.search(r"https?://", html)
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_a_finished_runs_page_is_written_anew_from_what_is_stored(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = page.read_bytes()
    page.unlink()
    assert main([str(page.parent)]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    "target", ["sympy.sympify", "distutils.spawn.spawn", "os.system", "dnr_bench.probes.folder.FolderProbe"]
)
def test_a_page_runs_nothing_that_a_received_result_names(
    target: str, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((page.parent / "result.json").read_text())
    for group in ("probe", "target", "store", "captioner", "scorer"):
        content["config"][group] = {"_target_": target, "a": f"touch {tmp_path / 'owned'}", "path": "/"}
    (page.parent / "result.json").write_text(json.dumps(content))
    monkeypatch.setattr("dnr_bench.app.parts.get_object", lambda name: pytest.fail(f"{name} was looked up"))
    assert main([str(page.parent)]) == 0
    assert not (tmp_path / "owned").exists()


def test_pictures_of_others_are_read_with_care(page: Path) -> None:
    file, folder = page.parent / "pictures.zip", page.parent
    whole, known = file.read_bytes(), Pictures.read(folder)
    assert known.strips
    for damaged in (b"", whole[:100], b"nonsense" * 99, whole.replace(b"exemplars", b"exemplarz")):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match="holds no pictures of a run"):
            Pictures.read(folder)
    odd = Tile("e0'); alert(1); ('", 0, HOSTILE, 0.0)
    Pictures({odd.strip: Strip(b"RIFF", 1)}, {"concepts:0": (odd,)}).write(folder)
    with pytest.raises(UsageError, match="holds no pictures of a run"):
        Pictures.read(folder)


def test_strips_hold_their_pictures_side_by_side() -> None:
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    images = [np.full((20, 30, 3), color, np.uint8) for color in colors]
    strip = Strip.of(images)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(strip.data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == (SIZE, 3 * SIZE, 3)
    for place, color in enumerate(colors):
        middle = decoded[SIZE // 2, place * SIZE + SIZE // 2].astype(int)
        assert np.abs(middle - color).max() < 30


def test_labels_from_elsewhere_have_a_page_without_pictures(
    label_run: Callable[..., RunResult], tmp_path: Path
) -> None:
    from dnr_bench.app.composition import load_config
    from dnr_bench.app.configuration import build_run

    labels = label_run({0: "red", 1: "blue"}, "evaluator=[]")
    settings = build_run(
        load_config(
            "method=precomputed",
            f"method.path={tmp_path / 'labels.csv'}",
            "neurons.layers=[concepts]",
            f"paths.store={tmp_path / 'store'}",
        )
    )
    html = write_report(labels, take_pictures(labels, settings.session(), tmp_path), tmp_path).read_text()
    assert html.count('<article class="card"') == 64
    assert 'class="tile ' not in html


def test_labels_without_network_and_images_end_well_with_a_page(
    command_line: Callable[[list[str]], CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("layer,unit,label\nl,0,red\nl,1,blue\n")
    words = ["method=precomputed", "method.path=labels.csv", "target=none", "target.layers={l:3}"]
    done = command_line([*words, "probe=none", "neurons.layers=[l]", "evaluator=[]"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Every neuron with its pictures" in done.stdout
    (page,) = (tmp_path / "mlruns").glob("runs/*/report.html")
    assert page.read_text().count('<article class="card"') == 3


def test_a_page_that_cannot_be_made_costs_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    with without_page("report.html"):
        write_report(result([], {}), Pictures(), tmp_path / "file")
    assert "warning: there is no report.html: RunError: cannot write" in capsys.readouterr().err


def test_a_strip_holds_no_more_than_a_webp_can() -> None:
    many = Strip.of([np.zeros((4, 4, 3), np.uint8)] * 300)
    assert many.n == MOST


@pytest.fixture(scope="module")
def made_jobs(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """The jobs of a multirun without their pages; tests get copies of them."""
    sweep = tmp_path_factory.mktemp("made") / "sweep"
    for i, scorer in enumerate(("mean", "semantic")):
        words = ["captioner=dataset", "evaluator=[planted]", "evaluator.planted.reciprocal_rank=true"]
        config = built_run(*SMALL, f"paths.store={shared_store}", *words, f"scorer={scorer}")
        run(config).write(sweep / str(i))
        Outcome([f"scorer={scorer}"]).write(sweep / str(i))
    return sweep


@pytest.fixture
def comparison(made_jobs: Path, tmp_path: Path) -> Path:
    sweep = Path(shutil.copytree(made_jobs, tmp_path / "sweep"))
    jobs = [read_job(sweep / str(i)) for i in range(2)]
    return write_comparison(compare(jobs), jobs, sweep)


def test_a_multiruns_page_has_its_metrics_and_the_labels_that_changed(comparison: Path) -> None:
    html = comparison.read_text()
    results = [RunResult.read(comparison.parent / str(i)) for i in range(2)]
    pairs = zip(results[0].neurons, results[1].neurons, strict=True)
    changed = [(a.labels, b.labels) for a, b in pairs if a.labels != b.labels]
    assert changed
    body = html.split('id="changes"')[1]
    assert body.count("<tr>") == len(changed)
    assert "planted.reciprocal_rank" in html
    assert f"{results[1].metrics['planted.exact'].mean:.3f}" in html


def test_changed_labels_link_into_the_pages_of_jobs_that_have_one(comparison: Path) -> None:
    folder = comparison.parent
    (folder / "1" / "report.html").write_text("<p>a page</p>")
    jobs = [read_job(folder / str(i)) for i in range(2)]
    html = write_comparison(compare(jobs), jobs, folder).read_text()
    assert 'href="1/report.html#' in html
    assert 'href="0/report.html#' not in html  # it has none


def test_two_runs_stand_side_by_side(comparison: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = comparison.parent
    assert main([str(folder / "0"), str(folder / "1")]) == 0
    page = folder / "0" / "side_by_side.html"
    assert str(page) in capsys.readouterr().out
    html = page.read_text()
    (second,) = re.findall(r"<td>planted.exact</td>(.*?)</tr>", html)
    means = [RunResult.read(folder / job).metrics["planted.exact"].mean for job in "01"]
    assert [f"{mean:.3f}" in second for mean in [*means, means[1] - means[0]]] == [True] * 3
    results = [RunResult.read(folder / str(i)) for i in range(2)]
    pairs = zip(results[0].neurons, results[1].neurons, strict=True)
    changed = sum(a.labels != b.labels for a, b in pairs)
    assert html.count('data-states="changed') == changed
    assert f'value="changed">changed ({changed})' in html


def test_a_neuron_that_only_one_of_two_runs_has_is_shown(tmp_path: Path) -> None:
    one = result([neuron(0, ["red"], {})], {})
    two = result([neuron(0, ["blue"], {}), neuron(1, ["green"], {})], {})
    first, second = (Side(run, Pictures(), name, {}, name) for run, name in ((one, "a"), (two, "b")))
    html = write_pair(first, second, tmp_path / "pair.html").read_text()
    assert html.count('<article class="card"') == 2
    assert "not in this run" in html
    titles = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert [[side["title"] for side in json.loads(one)] for one in titles] == [["a", "b"], ["b"]]


def test_many_pictures_stand_beside_the_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_run, pictures = RunResult.read(page.parent), Pictures.read(page.parent)
    assert pictures.strips
    within = page.read_text()
    assert "data:image/webp" in within
    monkeypatch.setattr("dnr_bench.outputs.pages.sheets._WITHIN", 1000)
    monkeypatch.setattr("dnr_bench.outputs.pages.sheets._TOGETHER", 20_000)
    beside = write_report(of_run, pictures, tmp_path)
    assert "data:image/webp" not in beside.read_text()
    sheets = sorted((tmp_path / "report_pictures").iterdir())
    assert len(sheets) > 1
    rules = "\n".join(sheet.read_text() for sheet in sheets)
    assert rules.count("data:image/webp") == len(pictures.strips)
    for name in {re.search(r"[0-9]+\.css", text) for text in beside.read_text().splitlines()} - {None}:
        assert (tmp_path / "report_pictures" / name.group()).exists()
    monkeypatch.undo()
    write_report(of_run, pictures, tmp_path)
    assert not (tmp_path / "report_pictures").exists()


def test_the_truths_place_among_the_candidates_is_told(tmp_path: Path) -> None:
    candidates = tuple(ScoredCandidate(text, "captions", 0.5) for text in ("red", "star or cross"))
    neurons = [
        neuron(0, ["red"], {}, truth="cross or star", candidates=candidates),
        neuron(1, ["red"], {}, truth="blue", candidates=candidates),
    ]
    html = write_report(result(neurons, {}), Pictures(), tmp_path).read_text()
    assert "truth: cross or star, candidate 2 of 2" in html
    assert "truth: blue, not among its 2 candidates" in html


def test_histograms_count_every_image_once() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    values[:, 2] = 5.0
    values[0, 1] = np.nan
    found = histograms(values, range(3))
    assert [sum(one.counts) for one in found] == [3000, 2999, 3000]
    expected, _ = np.histogram(values[:, 0], bins=24)
    assert np.abs(np.asarray(found[0].counts) - expected).sum() <= 4  # values at the edges of bins
    assert found[0].low == pytest.approx(float(values[:, 0].min()))
    assert found[2].counts[0] == 3000


def test_a_card_is_one_picture_of_a_neuron(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(page.parent), "--card", "concepts:9"]) == 0
    card = page.parent / "card-concepts-9.svg"
    assert str(card) in capsys.readouterr().out
    drawing = ElementTree.parse(card).getroot()
    texts = [part.text for part in drawing.iter("{http://www.w3.org/2000/svg}text")]
    of_run = RunResult.read(page.parent)
    shown = next(one for one in of_run.neurons if one.name == "concepts:9")
    assert "concepts:9" in texts
    assert any(text.startswith(shown.candidates[0].text[:25]) for text in texts if text)
    images = list(drawing.iter("{http://www.w3.org/2000/svg}image"))
    drawn = of_run.config["images_per_concept"]
    assert len(images) == len(shown.exemplars) + min(8, drawn) * len(shown.candidates[:3])
    for image in images:
        data = base64.b64decode(image.attrib["href"].partition(",")[2])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (SIZE, SIZE, 3)
    with pytest.raises(UsageError, match="the run has no neuron concepts:99: it has 11, from concepts:0"):
        main([str(page.parent), "--card", "concepts:99"])


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("seconds", None, "seconds=nan is no duration"),
        ("seconds", 1e300, "is no duration"),
        ("curves", {"\ud800": []}, "half a character"),
    ],
)
def test_a_damaged_result_is_refused_with_its_reason(
    page: Path, field: str, value: object, told: str
) -> None:
    path = page.parent / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UsageError, match=told):
        main([str(page.parent)])


def test_a_card_of_a_run_without_neurons_is_refused(tmp_path: Path) -> None:
    side = Side(result([], {}), Pictures(), "empty", {})
    with pytest.raises(UsageError, match="it has none"):
        write_card(side, "x:1", tmp_path / "card.svg")
