"""The pages of runs and multiruns in headless Chromium: pictures, filters, links, keys, ratings, phones."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest

from dnr_bench.app.run import run
from dnr_bench.outputs.pages.multirun import write_comparison
from dnr_bench.outputs.pages.run import Side, write_pair, write_report
from dnr_bench.outputs.pictures import Pictures, take_pictures
from dnr_bench.results.comparison import Outcome, compare, read_job
from dnr_bench.results.schema import RunResult
from dnr_bench.stages.thumbnails import SIZE
from tests.conftest import SMALL, built_run

HOSTILE = "<script>document.title='owned'</script></script>"


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """A multirun of two jobs with their pages, one user concept trying to break out."""
    sweep = tmp_path_factory.mktemp("sweep")
    hostile = [f'user_concepts=["{HOSTILE}"]', f"paths.store={shared_store}"]
    for i, scorer in enumerate(("mean", "semantic")):
        words = ["captioner=dataset", "evaluator=[planted]", f"scorer={scorer}"]
        config = built_run(*SMALL, *words, *hostile)
        session, job = config.session(), sweep / str(i)
        result = run(config, session)
        result.write(job)
        Outcome([f"scorer={scorer}"], {"scorer": scorer}).write(job)
        write_report(result, take_pictures(result, session, job), job)
    jobs = [read_job(sweep / str(i)) for i in range(2)]
    write_comparison(compare(jobs), jobs, sweep)
    return sweep


def shown(browser) -> list[str]:
    return browser.execute_script(
        "return [...list.children].filter(card => !card.hidden).map(card => card.id)"
    )


def opened(browser, page: Path, address: str = "") -> None:
    browser.get("about:blank")  # an address that differs in what follows # alone would not load anew
    browser.get(page.as_uri() + address)


def press(browser, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def choose(browser, control: str, value: str) -> None:
    browser.execute_script(
        f"{control}.value = arguments[0]; {control}.dispatchEvent(new Event('input'))", value
    )


def no_errors(browser) -> bool:
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_every_picture_of_a_page_is_there(browser, folder: Path) -> None:
    opened(browser, folder / "0" / "report.html")
    assert browser.title != "owned"
    browser.execute_script("cards.forEach(fill)")
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
    of_run = RunResult.read(folder / "0")
    candidates = browser.execute_script("return document.querySelectorAll('.candidate').length")
    assert candidates == sum(len(neuron.candidates) for neuron in of_run.neurons)
    histograms = browser.execute_script("return document.querySelectorAll('.histogram').length")
    assert histograms == sum(bool(neuron.exemplars) for neuron in of_run.neurons)
    marked = browser.execute_script("return document.querySelectorAll('mark').length")
    assert marked > 0
    assert browser.title != "owned"
    tile = browser.find_element("css selector", "[data-where]")
    before = tile.get_attribute("class")
    press(browser, "w")
    assert tile.get_attribute("class") != before
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != light
    assert no_errors(browser)


def test_what_is_searched_filtered_and_sorted_stands_in_the_address(browser, folder: Path) -> None:
    page = folder / "0" / "report.html"
    opened(browser, page)
    everyone = shown(browser)
    assert len(everyone) == 11
    press(browser, "/", "striped")
    some = shown(browser)
    assert 0 < len(some) < len(everyone)
    assert "concepts:9" in some
    press(browser, "\ue00c")  # Escape leaves the field, and what is in it
    assert browser.execute_script("return search.value") == "striped"
    assert shown(browser) == some
    browser.find_element("css selector", ".card:not([hidden]) a.name").click()
    address = browser.current_url.partition("#")[2]
    assert "search=striped" in address
    assert f"neuron={some[0]}" in address
    choose(browser, "search", "")
    choose(browser, "state", "wrong")
    wrong = shown(browser)
    assert len(wrong) == len(browser.find_elements("css selector", ".card:not([hidden]) .bad")) > 0
    choose(browser, "sort", "planted.attribute_f1")
    browser.find_element("id", "turn").click()
    in_order = shown(browser)
    values = browser.execute_script(
        "return [...list.children].map(card => values.get(card)['planted.attribute_f1'])"
    )
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    address = browser.current_url.partition("#")[2]
    assert "state=wrong" in address
    opened(browser, page, f"#{address}")
    assert shown(browser) == in_order
    assert sorted(in_order) == sorted(wrong)
    assert no_errors(browser)


def test_a_link_opens_a_neuron_and_keys_go_on_from_there(browser, folder: Path) -> None:
    opened(browser, folder / "0" / "report.html", "#concepts:9")
    focused = "return document.activeElement.id"
    assert browser.execute_script(focused) == "concepts:9"
    following = shown(browser)
    press(browser, "j")
    after = following[following.index("concepts:9") + 1]
    assert browser.execute_script(focused) == after
    assert browser.current_url.endswith(f"#{quote(after, safe=':')}")
    press(browser, "k", "k")
    assert browser.execute_script(focused) == following[following.index("concepts:9") - 1]
    press(browser, "?")
    assert browser.execute_script("return help.open")
    press(browser, "\ue00c")  # Escape
    assert not browser.execute_script("return help.open")
    opened(browser, folder / "0" / "report.html", "#no such neuron")
    assert len(shown(browser)) == 11
    assert no_errors(browser)


def test_labels_are_rated_by_key_kept_and_saved(browser, folder: Path) -> None:
    page = folder / "0" / "report.html"
    opened(browser, page, "#concepts:9")
    press(browser, "4", "j", "2", "2", "j", "1")  # the second key takes the rating back
    opened(browser, page)
    rated = browser.execute_script("return ratings")
    of_run = {neuron.name: neuron for neuron in RunResult.read(folder / "0").neurons}
    assert rated["concepts:9"] == "4"
    assert len(rated) == 2
    text = browser.execute_async_script(
        """const done = arguments[0], make = URL.createObjectURL;
        URL.createObjectURL = blob => { blob.text().then(done); return make(blob); };
        document.getElementById('export').click();"""
    )
    rows = list(csv.DictReader(StringIO(text)))
    assert {row["neuron"]: row["rating"] for row in rows} == rated
    assert next(r for r in rows if r["neuron"] == "concepts:9")["label"] == of_run["concepts:9"].labels[0]
    browser.execute_script("localStorage.clear()")
    assert no_errors(browser)


def test_a_phone_shows_the_page_without_scrolling_sideways(browser, folder: Path) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for page in (folder / "0" / "report.html", folder / "comparison.html"):
            opened(browser, page)
            browser.execute_script("typeof cards === 'undefined' || cards.forEach(fill)")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_that_can_be_used_has_a_name(browser, folder: Path) -> None:
    opened(browser, folder / "0" / "report.html")
    browser.execute_script("cards.forEach(fill)")
    nameless = browser.execute_script(
        """const told = one => one.getAttribute('aria-label')
          || (one.matches('button, a') && one.textContent.trim())
          || (one.closest('label') && one.closest('label').textContent.trim());
        const used = 'button, select, input, a, [role=img], article';
        return [...document.querySelectorAll(used)].filter(one => !told(one)).map(one => one.outerHTML)"""
    )
    assert nameless == []
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].map(heading => +heading.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_of_thousands_of_neurons_only_those_in_view_are_drawn(
    browser, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnr_bench.outputs.pages.sheets._WITHIN", 1000)
    monkeypatch.setattr("dnr_bench.outputs.pages.sheets._TOGETHER", 20_000)
    of_run, pictures = RunResult.read(folder / "0"), Pictures.read(folder / "0")
    known = [neuron for neuron in of_run.neurons if neuron.name in pictures.exemplars]
    many = [replace(known[unit % len(known)], layer="many", unit=unit) for unit in range(5000)]
    exemplars = {one.name: pictures.exemplars[known[one.unit % len(known)].name] for one in many}
    page = write_report(
        replace(of_run, neurons=tuple(many)), Pictures(pictures.strips, exemplars), tmp_path / "many"
    )
    opened(browser, page, "#many:4321")
    assert browser.execute_script("return document.activeElement.id") == "many:4321"
    drawn = browser.execute_script("return cards.filter(card => !card.querySelector('script')).length")
    assert 0 < drawn < 100
    loaded = browser.execute_async_script(
        """const done = arguments[0], probe = document.activeElement.querySelector('.tile');
        const look = () => getComputedStyle(probe).backgroundImage.startsWith('url("data:image/webp')
          ? done(true) : setTimeout(look, 50);
        look();"""
    )
    assert loaded
    assert no_errors(browser)


def test_two_runs_are_judged_side_by_side(browser, folder: Path) -> None:
    sides = [
        Side.of(folder / str(i), RunResult.read(folder / str(i)), Pictures.read(folder / str(i)), prefix)
        for i, prefix in enumerate("ab")
    ]
    page = write_pair(*sides, folder / "0" / "side_by_side.html")
    opened(browser, page)
    choose(browser, "state", "changed")
    changed = shown(browser)
    assert changed
    press(browser, "\ue00c", "j", "2")
    assert browser.execute_script("return ratings") == {changed[0]: "second"}
    assert len(browser.execute_script("return [...document.activeElement.querySelectorAll('section')]")) == 2
    browser.execute_script("localStorage.clear()")
    assert no_errors(browser)


def test_a_changed_label_leads_to_its_neuron_in_the_runs_page(browser, folder: Path) -> None:
    opened(browser, folder / "comparison.html")
    count = browser.find_element("id", "count")
    total = int(count.text.split()[-1])
    link = browser.find_element("css selector", ".changed a")
    address = link.get_attribute("href")
    browser.find_element("id", "search").send_keys("no neuron is called so")
    assert count.text == f"0 of {total}"
    browser.get(address)
    aimed_at = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
    assert aimed_at == browser.execute_script("return document.activeElement.id")
    assert no_errors(browser)
