"""Raters' pages in headless Chromium: keys, pointer, a phone; closed and gone on with; sent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from dnr_bench.app.rate import analyze, build
from dnr_bench.app.rate.serve import application
from dnr_bench.app.run import run
from dnr_bench.infra.planted import read_planted
from dnr_bench.outputs.pictures import take_pictures
from dnr_bench.results.ratings.answers import read_page
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.results.ratings.study import CHANCE, Study
from dnr_bench.results.schema import RunResult
from dnr_bench.shapes.raters import World
from tests.conftest import built_run
from tests.helpers import rating_robot as robot
from tests.helpers.rating_studies import METHODS, WORLD, built


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a study's server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(application(folder), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def judge_of(study: Study) -> robot.Judge:
    """Somebody who knows what each neuron detects, and does what checks ask for."""

    def judge(question: str, label: str) -> int:
        item = study.by_item[question]
        if item.is_check:
            return item.expected[[one.text for one in item.labels].index(label)]
        return 1 + round(4 * WORLD.worth(item.neuron, label))

    return judge


def test_a_study_is_answered_collected_and_analyzed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = built(
        tmp_path, "--raters", "2", "--per-item", "2", "--checks", "1", "--neurons", "4", "--code", "DONE-42"
    )
    folder, judge = tmp_path / "study", judge_of(study)
    with served(folder) as address:
        for number in range(2):
            profile, phone = tmp_path / f"profile{number}", number == 1
            with robot.opened(address, profile, phone=phone) as browser:
                page = study.by_page[browser.current_url.rpartition("/")[2]]
                if phone:
                    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
                robot.start(browser)
                robot.practice(browser)
                half = len(page.turns) // 2
                for turn in page.turns[:half]:
                    robot.answer(browser, turn.item, judge, by_keys=not phone)
                assert robot.at(browser) == f"{half + 1} of {len(page.turns)}"
                assert robot.no_errors(browser)
            with robot.opened(address, profile, phone=phone) as browser:  # the same page, where one was
                assert browser.current_url.endswith(page.id)
                assert browser.find_element("css selector", "h1").text == "Welcome back"
                browser.refresh()  # looking in once more changes nothing
                assert browser.find_element("css selector", "h1").text == "Welcome back"
                robot.press(browser, "\ue007")
                assert robot.at(browser) == f"{half + 1} of {len(page.turns)}"
                for turn in page.turns[half:]:
                    robot.answer(browser, turn.item, judge, by_keys=phone)
                robot.click(browser, "#send")
                wait_for(browser, "Your answers have arrived.")
                left = browser.execute_script("return document.querySelectorAll('nav button').length")
                assert left == 0  # what was sent stays
                assert "DONE-42" in browser.find_element("id", "main").text
                assert robot.no_errors(browser)
    assert analyze.main([str(folder), "--no-mlflow", "--seconds", "0"]) == 0
    found = RatingResult.read(folder)
    means = {row["method"]: row["rating"] for row in found.tables[0].rows}
    assert [means[name] for name in METHODS] == sorted((means[name] for name in METHODS), reverse=True)
    assert means["first_rate"] == 5.0
    assert found.pages == (2, 2)
    assert "left_out" not in {table.name for table in found.tables}


@pytest.mark.slow
def test_forty_planted_neurons_and_four_methods(tmp_path: Path, shared_store: Path) -> None:
    words = []
    for method in ("describe", "invert", "clip_dissect", "milan"):
        given = (f"method={method}", "evaluator=[planted]", f"paths.store={shared_store}")
        config = built_run("generator=renderer", "neurons.layers=[concepts]", *given)
        session = config.session()
        result = run(config, session)
        result.write(tmp_path / method)
        take_pictures(result, session, tmp_path / method)
        words.append(f"{method}={tmp_path / method}")
    folder = tmp_path / "study"
    settings = ["neurons.layers=[concepts]", f"paths.store={shared_store}"]
    assert build.main([*words, "--neurons", "40", "--into", str(folder), *settings]) == 0
    study = Study.read(folder)
    assert len(study.neurons) == 40
    world, rng = World.of(read_planted("embedded:target")), np.random.default_rng(0)

    def judge(question: str, label: str) -> int:
        item = study.by_item[question]
        if item.is_check:
            return item.expected[[one.text for one in item.labels].index(label)]
        return int(np.clip(np.rint(1 + 4 * world.worth(item.neuron, label) + rng.normal(0, 0.5)), 1, 5))

    with served(folder) as address:
        for number in range(len(study.pages)):
            profile, phone = tmp_path / f"profile{number}", number % 2 == 1
            for part in range(2):  # closed after the half, and gone on with
                with robot.opened(address, profile, phone=phone) as browser:
                    page = study.by_page[browser.current_url.rpartition("/")[2]]
                    robot.start(browser)
                    if part == 0:
                        robot.practice(browser)
                    half = len(page.turns) // 2
                    for turn in page.turns[:half] if part == 0 else page.turns[half:]:
                        robot.answer(browser, turn.item, judge, by_keys=number % 3 != 1)
                    if part == 1:
                        robot.click(browser, "#send")
                        wait_for(browser, "Your answers have arrived.")
    assert analyze.main([str(folder), "--mlruns", str(tmp_path / "mlruns"), "--seconds", "0"]) == 0
    found = RatingResult.read(folder)
    means = {row["method"]: row["rating"] for row in found.tables[0].rows}
    truth = {
        method: RunResult.read(tmp_path / method).metrics["planted.attribute_f1"].mean
        for method in ("describe", "invert", "clip_dissect", "milan")
    }
    assert means["milan"] == min(means[method] for method in truth)
    assert means[CHANCE] < means["milan"]
    assert sorted(truth, key=lambda m: truth[m])[:2] == sorted(truth, key=lambda m: means[m])[:2]
    assert found.pages == (6, 6)


def wait_for(browser, text: str) -> None:
    until = time.monotonic() + 20
    while text not in browser.find_element("id", "main").text:
        assert time.monotonic() < until, browser.find_element("id", "main").text
        time.sleep(0.05)


def test_a_page_from_a_file_is_downloaded_and_says_what_is_missing(tmp_path: Path) -> None:
    study = built(tmp_path, "--raters", "1", "--per-item", "1", "--checks", "1", "--neurons", "3")
    page = study.pages[0]
    address = (tmp_path / f"study/pages/{page.id}.html").as_uri()
    with robot.opened(f"{address}?PROLIFIC_PID=5f<b>x</b>", tmp_path / "profile") as browser:
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
        )
        robot.start(browser)
        robot.practice(browser)
        robot.click(browser, "nav .next")
        assert browser.find_element("css selector", "nav p").text == "Please rate every description."
        assert browser.find_element("css selector", "fieldset.missing")
        robot.click(browser, ".picture")  # enlarged, and closed again
        assert browser.find_element("id", "large").is_displayed()
        robot.click(browser, "#large button")
        for turn in page.turns:
            robot.answer(browser, turn.item, judge_of(study), by_keys=False)
        robot.press(browser, "5")  # after the end keys do nothing
        robot.click(browser, "#download")
        file = tmp_path / f"answers-{page.id}.json"
        until = time.monotonic() + 20
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert robot.no_errors(browser)
    answers = read_page(file.read_text(), study, file.name)
    assert answers.rater == "5fbxb"  # what a name cannot hold is left out
    assert all(answer.seconds > 0 for answer in answers.answers)


def test_pictures_are_chosen_by_keys_and_by_pointer(tmp_path: Path) -> None:
    from dnr_bench.app.rate.build import write_study
    from dnr_bench.outputs.pages.montage import Montage
    from dnr_bench.results.ratings.design import TOGETHER, Design, Source, study_of
    from dnr_bench.results.ratings.study import Item, ShownLabel
    from tests.helpers.results import result
    from tests.helpers.small_files import SCENES

    shown = list(range(TOGETHER))
    items = [
        Item(f"i{n}", "pictures", "m0", TOGETHER, (ShownLabel("l0", text, ("DnD",)),), images=tuple(shown))
        for n, text in enumerate(("red circle", "anything <b>"))
    ]
    design = Design(1, 1, 0)
    study = study_of("Pictures", [Source("DnD", result([], {}))], items, design, unlabeled={})
    montages = {"m0": Montage.of([SCENES.images[place] for place in shown], 64)}
    write_study(tmp_path, study, montages, "", "")
    page = study.pages[0]
    with robot.opened(
        (tmp_path / f"pages/{page.id}.html").as_uri(), tmp_path / "profile", phone=True
    ) as browser:
        robot.start(browser)
        robot.press(browser, "2", "5", "6", "0", "n")  # none of them takes the choice back
        robot.press(browser, "\ue007")
        assert "The pictures that fit are 2, 5, 6, 10" in browser.find_element("css selector", "nav p").text
        robot.press(browser, "2", "5", "6", "0", "\ue007")
        assert robot.at(browser) == "1 of 2"
        texts = [study.by_item[turn.item].labels[0].text for turn in page.turns]
        assert texts[0] in browser.find_element("css selector", "h1").text
        robot.press(browser, "1", "=")
        browser.find_elements("css selector", ".picture")[4].click()
        assert browser.execute_script("return document.activeElement.ariaLabel") == "picture 5"
        browser.find_elements("css selector", ".picture")[0].click()
        robot.click(browser, "nav .next")
        robot.click(browser, "label.none")
        assert texts[1] in browser.find_element("css selector", "h1").text
        robot.click(browser, "nav .next")
        found = browser.execute_script("return JSON.stringify(answers())")
        assert robot.no_errors(browser)
    answers = read_page(found, study, "")
    assert [answer.chosen for answer in answers.answers] == [(4, 11), ()]
    assert json.loads(found)["answers"][0].keys() == {"item", "seconds", "chosen"}
