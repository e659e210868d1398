"""The pages of a run and a multirun: what is in them, that nothing breaks out, that browsers show them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from dnr_bench.app.commands.report import main
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.multirun import write_comparison
from dnr_bench.outputs.pages.page import without_page
from dnr_bench.outputs.pages.run import write_report
from dnr_bench.outputs.pictures import MOST, SIZE, Pictures, Strip, Tile, take_pictures
from dnr_bench.results.comparison import Outcome, compare, read_job
from dnr_bench.results.schema import RunResult
from tests.helpers.results import result

BuildRun = Callable[..., RunConfig]
HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture
def page(small_run: BuildRun, tmp_path: Path) -> Path:
    """The page of a small run of all evaluators' kinds, one user concept trying to break out."""
    config = small_run("captioner=dataset", f'user_concepts=["{HOSTILE}"]', "evaluator=[planted,cost]")
    session = config.session()
    result = run(config, session)
    result.write(tmp_path / "run")
    return write_report(result, take_pictures(result, session, tmp_path / "run"), tmp_path / "run")


def test_the_page_holds_every_neuron_and_needs_no_network(page: Path) -> None:
    html = page.read_text()
    of_run = RunResult.read(page.parent)
    assert html.count('<article class="card"') == len(of_run.neurons)
    assert of_run.neurons
    for neuron in of_run.neurons:
        assert neuron.name in html
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
    import base64

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


@pytest.fixture
def comparison(small_run: BuildRun, tmp_path: Path) -> Path:
    for i, scorer in enumerate(("mean", "semantic")):
        folder = tmp_path / "sweep" / str(i)
        words = ["captioner=dataset", "evaluator=[planted]", "evaluator.planted.reciprocal_rank=true"]
        run(small_run(*words, f"scorer={scorer}")).write(folder)
        Outcome([f"scorer={scorer}"]).write(folder)
    jobs = [read_job(tmp_path / "sweep" / str(i)) for i in range(2)]
    return write_comparison(compare(jobs), jobs, tmp_path / "sweep")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium (Debian packages chromium and chromium-driver)."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no chromium and chromedriver here")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options=options, service=Service(executable_path=driver))
    found.set_window_size(1200, 900)
    yield found
    found.quit()


def shown(browser) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('.card')].filter(c => !c.hidden)"
        ".map(c => c.querySelector('.name').textContent)"
    )


def press(browser, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def test_the_page_works_in_a_browser(browser, page: Path) -> None:
    browser.get(page.as_uri())
    assert browser.title != "owned"
    everyone = shown(browser)
    assert len(everyone) == 11
    sizes = browser.execute_async_script(
        """const done = arguments[0], names = new Set();
        for (const tile of document.querySelectorAll('.tile'))
          for (const name of [tile.className.split(' ')[1], tile.dataset.where]) if (name) names.add(name);
        Promise.all([...names].map(name => new Promise(resolve => {
          const probe = document.createElement('i'); probe.className = name; document.body.append(probe);
          const url = getComputedStyle(probe).backgroundImage.slice(5, -2); probe.remove();
          const image = new Image();
          image.onload = () => resolve(image.naturalWidth); image.onerror = () => resolve(0); image.src = url;
        }))).then(done);"""
    )
    assert len(sizes) > 20
    assert all(width >= 4 * SIZE for width in sizes)
    press(browser, "/", "striped")
    some = shown(browser)
    assert 0 < len(some) < len(everyone)
    assert "concepts:9" in some
    choose = "state.value = '{}'; state.dispatchEvent(new Event('input'))"
    browser.execute_script("search.value = '';" + choose.format("wrong"))
    wrong = browser.find_elements("css selector", ".card:not([hidden]) .bad")
    assert len(wrong) == len(shown(browser))
    browser.execute_script(choose.format(""))
    browser.execute_script("sort.value = 'planted.attribute_f1'; sort.dispatchEvent(new Event('input'))")
    values = browser.execute_script(
        "return [...list.children].map(c => values.get(c)['planted.attribute_f1'])"
    )
    known = [value for value in values if value is not None]
    assert known == sorted(known)
    assert values[: len(known)] == known
    press(browser, "\ue00c")  # Escape leaves the search field
    press(browser, "j", "j", "k")
    assert browser.execute_script("return document.activeElement === list.children[0]")
    tile = browser.find_element("css selector", "[data-where]")
    before = tile.get_attribute("class")
    press(browser, "w")
    assert tile.get_attribute("class") != before
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != light
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_comparison_works_in_a_browser(browser, comparison: Path) -> None:
    browser.get(comparison.as_uri())
    count = browser.find_element("id", "count")
    total = int(count.text.split()[-1])
    browser.find_element("id", "search").send_keys("no neuron is called so")
    assert count.text == f"0 of {total}"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
