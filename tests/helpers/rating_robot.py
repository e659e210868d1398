"""Somebody who answers a rater's page in headless Chromium: by keys, by pointer, on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Of a question and a label: what to rate it, from 1 to 5.
Judge = Callable[[str, str], int]
#: A phone in CSS pixels.
PHONE = (390, 800)
_DESK = (1000, 900)


@contextmanager
def opened(address: str, profile: Path, *, phone: bool = False) -> Iterator[Any]:
    """A browser at an address; the profile keeps what it remembers. Skips where there is no Chromium."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no chromium and chromedriver here")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    for word in (*words, f"--user-data-dir={profile}", f"--window-size={_DESK[0]},{_DESK[1]}"):
        options.add_argument(word)
    if phone:
        metrics = {"width": PHONE[0], "height": PHONE[1], "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(executable_path=driver))
    browser.implicitly_wait(5)
    try:
        browser.get(address)
        yield browser
    finally:
        browser.quit()


def at(browser: Any) -> str:
    """What the page says of how far one is: "3 of 12"."""
    return str(browser.find_element("id", "where").text)


def start(browser: Any) -> None:
    """Leave the first screen."""
    click(browser, "nav .next")


def practice(browser: Any) -> None:
    """Err once, be told, and get it right."""
    for label, value in (("blue squares", 5), ("red circles", 1)):
        rate(browser, label, value)
    best(browser, "blue squares")
    click(browser, "nav .next")
    assert "does not fit these pictures" in browser.find_element("css selector", "nav p").text
    for label, value in (("blue squares", 1), ("red circles", 5)):
        rate(browser, label, value)
    best(browser, "red circles")
    click(browser, "nav .next")


def labels(browser: Any) -> list[str]:
    """The descriptions on the screen, in order."""
    return [found.text for found in browser.find_elements("css selector", "fieldset legend")]


def rate(browser: Any, label: str, value: int) -> None:
    """By pointer."""
    _scrolled(browser, _box(browser, label), f".scale input[value='{value}']").click()


def best(browser: Any, label: str) -> None:
    """By pointer."""
    _scrolled(browser, _box(browser, label), ".best input").click()


def click(browser: Any, selector: str) -> None:
    """By pointer, on the only element that fits."""
    browser.find_element("css selector", selector).click()


def press(browser: Any, *keys: str) -> None:
    """By keyboard, to whatever has the focus."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def answer(browser: Any, question: str, judge: Judge, *, by_keys: bool) -> None:
    """One question with ratings, and on to the next."""
    from selenium.webdriver.common.keys import Keys

    shown = labels(browser)
    values = [judge(question, label) for label in shown]
    favorite = shown[values.index(max(values))]
    if not by_keys:
        for label, value in zip(shown, values, strict=True):
            rate(browser, label, value)
        if len(shown) > 1:
            best(browser, favorite)
        click(browser, "nav .next")
        return
    press(browser, *(str(value) for value in values))
    if len(shown) > 1:
        ups = len(shown) - 1 - shown.index(favorite)
        press(browser, *([Keys.ARROW_UP] * ups), "b")
    press(browser, Keys.ENTER)


def no_errors(browser: Any) -> bool:
    """Nothing was written to the console as an error."""
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def _scrolled(browser: Any, box: Any, selector: str) -> Any:
    """What is to be clicked, moved out from under the bar, as a person would."""
    found = box.find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def _box(browser: Any, label: str) -> Any:
    for found in browser.find_elements("css selector", "fieldset"):
        if found.find_element("css selector", "legend").text == label:
            return found
    raise AssertionError(f"{label!r} is not on the screen: {labels(browser)}")
