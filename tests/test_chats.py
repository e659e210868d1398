"""Chat models: a real server on loopback that breaks in many ways, and small real local models."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnr_bench.app.command_line import exit_code_of
from dnr_bench.app.composition import load_config
from dnr_bench.app.run import RunConfig, run
from dnr_bench.chats.answers import AnswerBook
from dnr_bench.chats.budget import BudgetSpentError
from dnr_bench.chats.local import LocalChat
from dnr_bench.chats.openai import OpenAIChat
from dnr_bench.chats.prompts import examples_in, filled, is_parroted, read_prompt
from dnr_bench.chats.sampling import LabelSampling, first_line, label_of
from dnr_bench.data.chat import Answer, Question
from dnr_bench.data.images import View
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.store import Store
from dnr_bench.outputs.terminal.run import usage_line
from dnr_bench.protocols import Captioner, Chat, Proposer, Summarizer
from dnr_bench.results.schema import ChatUsage, RunResult
from tests.helpers.building import build
from tests.helpers.captions import said
from tests.helpers.chat_server import KEY, ODD, WITHOUT_ANSWER, Server, chat_server
from tests.helpers.small_models import SmallModels

CommandLine = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]
CAPTIONS = said(
    ["a red circle on blue", "a red star on white", "a red striped ring", "the red square"],
    ["a dotted star on green", "dotted circle", "a dotted heart on red"],
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def overrides(server: Server, folder: Path, *more: str, part: str = "summarizer") -> list[str]:
    return [
        f"{part}={'openai' if part != 'proposer' else 'openai_images'}",
        f"{part}.chat.base_url={server.url}",
        f"{part}.chat.backoff=0.01",
        f"{part}.chat.timeout=0.8",
        f"paths.store={folder / 'store'}",
        *more,
    ]


def summarizer(server: Server, folder: Path, *more: str) -> Summarizer:
    return build(load_config(*overrides(server, folder, *more)).summarizer, Summarizer, "summarizer")


def chat(server: Server, *more: str) -> OpenAIChat:
    config = load_config(*overrides(server, Path("unused"), *more)).summarizer.chat
    built = build(config, Chat, "chat")
    assert isinstance(built, OpenAIChat)
    return built


def test_labels_of_captions_with_tokens_and_money(tmp_path: Path) -> None:
    with chat_server() as server:
        model = summarizer(server, tmp_path)
        labels = model.summarize(CAPTIONS, n=5, seed=0)
    assert labels[0] == ["red"]
    assert labels[1] == ["dotted"]
    totals = model.usage.totals
    assert len(server.requests) == 7 + 2 * 5  # one for each caption, five samples a neuron
    assert totals["asked"] == 17
    assert totals["prompt_tokens"] == 1700
    assert totals["dollars"] == pytest.approx(17 * (100 * 0.15 + 5 * 0.6) / 1e6)
    orders = {tuple(re.findall("^- (.+)$", r["messages"][0]["content"].rpartition("Captions:")[2], re.M))
              for r in server.requests[7:12]}  # fmt: skip
    assert len(orders) > 1  # every sample sees the captions in another order
    assert {r["temperature"] for r in server.requests[:7]} == {0.0}
    assert {r["temperature"] for r in server.requests[7:]} == {0.3}


def test_answers_are_asked_for_once_and_replayed_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server() as server:
        first = summarizer(server, tmp_path).summarize(CAPTIONS, n=3, seed=0)
        asked = len(server.requests)
        assert summarizer(server, tmp_path).summarize(CAPTIONS, n=3, seed=0) == first
        assert len(server.requests) == asked
    monkeypatch.delenv("OPENAI_API_KEY")
    replayed = summarizer(server, tmp_path, "summarizer.replay=only")  # the server is gone
    assert replayed.summarize(CAPTIONS, n=3, seed=0) == first
    assert replayed.summarize(CAPTIONS[:1], n=2, seed=0) == first[:1]
    assert replayed.usage.totals["asked"] == 0
    with pytest.raises(UsageError, match=r"replay=only: 1 of 1 answers .*the first of them to 'Shorten"):
        replayed.summarize(said(["a new caption"]), n=3, seed=0)


FAULTS = ["429", "500", "timeout", "truncated", "empty", "long"]


def test_labels_come_out_of_a_server_that_breaks_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    def fault(n: int) -> str | None:
        return FAULTS[(n // 2) % len(FAULTS)] if n % 2 else None

    with chat_server(fault) as server:
        broken = summarizer(server, tmp_path, "summarizer.attempts=6").summarize(CAPTIONS, n=5, seed=0)
        assert set(server.paid.values()) == {1}
    with chat_server() as whole:
        fine = summarizer(whole, tmp_path / "other", "summarizer.attempts=6").summarize(CAPTIONS, n=5, seed=0)
    assert [set(labels) for labels in broken] == [set(labels) for labels in fine]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str, tmp_path: Path) -> None:
    with chat_server(lambda n: fault if n in (0, 1, 4) else None) as server:
        labels = summarizer(server, tmp_path, "simplify_captions=false").summarize(CAPTIONS, n=3, seed=0)
    assert labels == [["red"], ["dotted"]]
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_is_kept_and_paid_once(odd: str, tmp_path: Path) -> None:
    settings = ("simplify_captions=false", "summarizer.chat.budget=100")
    with chat_server(lambda n: odd if n < 3 else None) as server:
        labels = [summarizer(server, tmp_path, *settings).summarize(CAPTIONS, n=3, seed=0) for _ in range(2)]
    assert labels[0] == labels[1]
    assert [label[0].strip(" ?.") for label in labels[0]] == ["red", "dotted"]
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("odd", [odd for odd in ODD if "usage" in odd])
def test_what_a_server_does_not_count_costs_all_that_was_set_aside(odd: str) -> None:
    with chat_server(lambda n: odd) as server:
        asked = chat(server, "summarizer.chat.budget=0.01", "summarizer.chat.attempts=1")
        ((_, answer),) = asked.ask([Question("what?")])
    most = asked.budget.dollars(len(b"what?") + 50, asked.max_tokens)
    assert answer.dollars == asked.budget.spent == pytest.approx(most)
    assert answer.prompt_tokens is answer.completion_tokens is None


@pytest.mark.parametrize("fault", [*WITHOUT_ANSWER, "truncated", "timeout"])
def test_responses_without_an_answer_are_paid_too(fault: str) -> None:
    with chat_server(lambda n: fault if n < 2 else None) as server:
        asked = chat(server, "summarizer.chat.budget=0.01", "summarizer.chat.attempts=3")
        ((_, answer),) = asked.ask([Question("what?")])
        sound = asked.budget.dollars(100, 5)
        assert sound is not None
        assert answer.dollars == asked.budget.spent > 1.5 * sound
        server.fault = lambda n: fault
        poor = chat(server, "summarizer.chat.budget=0.00005", "summarizer.chat.attempts=9")
        with pytest.raises(BudgetSpentError, match="dollars are spent"):
            list(poor.ask([Question("what?")]))


@pytest.mark.parametrize("budget", [".nan", ".inf", "-1", "0", "true"])
def test_a_budget_is_a_number_of_dollars(budget: str) -> None:
    with chat_server() as server, pytest.raises(UsageError, match=r"budget="):
        chat(server, f"summarizer.chat.budget={budget}")


def test_questions_do_not_follow_a_redirect(tmp_path: Path) -> None:
    with chat_server() as other, chat_server(lambda n: "elsewhere") as server:
        server.elsewhere = f"{other.url}/chat/completions"
        with pytest.raises(RunError, match=r"redirects to http://127\.0\.0\.1:\d+.* name it in base_url"):
            summarizer(server, tmp_path).summarize(CAPTIONS, n=1, seed=0)
        assert not other.requests


def test_a_server_may_ask_to_wait_in_any_words(tmp_path: Path) -> None:
    with chat_server(lambda n: "wait" if n == 0 else None) as server:
        assert summarizer(server, tmp_path, "simplify_captions=false").summarize(CAPTIONS, n=1, seed=0)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/v1", "http://[::1/v1", "http://a:b:c", "http://"]
)
def test_what_is_no_address_is_said(address: str) -> None:
    with chat_server() as server, pytest.raises(UsageError, match="base_url must be an address"):
        chat(server, f"summarizer.chat.base_url='{address}'")


def test_a_server_that_never_answers_fails_the_run_with_its_reason_and_no_key(tmp_path: Path) -> None:
    with chat_server(lambda n: "500" if n > 4 else None) as server:
        model = summarizer(server, tmp_path, "simplify_captions=false", "summarizer.chat.attempts=2")
        with pytest.raises(
            RunError, match=r"did not answer: HTTP 500: .*cannot serve Bearer \*\*\*"
        ) as raised:
            model.summarize(CAPTIONS, n=5, seed=0)
    assert KEY not in str(raised.value)
    again = summarizer(server, tmp_path, "simplify_captions=false", "summarizer.replay=only")
    with pytest.raises(UsageError, match=rf"{10 - len(server.paid)} of 10 answers"):
        again.summarize(CAPTIONS, n=5, seed=0)


def test_nobody_there_is_one_message(tmp_path: Path) -> None:
    with chat_server() as server:
        pass
    model = summarizer(server, tmp_path, "summarizer.chat.attempts=2")
    with pytest.raises(RunError, match=r"gpt-4o-mini at http://127\.0\.0\.1:\d+/v1 did not answer: "):
        model.summarize(CAPTIONS, n=1, seed=0)


def test_a_wrong_key_is_not_tried_again(tmp_path: Path) -> None:
    with chat_server(lambda n: "401") as server:
        with pytest.raises(RunError, match="HTTP 401"):
            summarizer(server, tmp_path, "summarizer.chat.concurrency=1").summarize(CAPTIONS, n=5, seed=0)
        assert len(server.requests) == 1


def test_what_a_service_refuses_leaves_out_one_answer_and_a_bad_request_ends_the_run(tmp_path: Path) -> None:
    with chat_server(lambda n: "filtered" if n % 3 == 0 else None) as server:
        labels = summarizer(server, tmp_path, "simplify_captions=false").summarize(CAPTIONS, n=3, seed=0)
        assert labels == [["red"], ["dotted"]]
        server.fault = lambda n: "filtered"
        nothing = summarizer(server, tmp_path, "simplify_captions=false", "summarizer.temperature=0.5")
        assert nothing.summarize(CAPTIONS, n=3, seed=0) == [[], []]
        server.fault = lambda n: "400"
        with pytest.raises(RunError, match="HTTP 400"):
            summarizer(server, tmp_path, "summarizer.temperature=0.6").summarize(CAPTIONS, n=3, seed=0)


@pytest.mark.slow
def test_a_run_whose_questions_are_all_refused_fails_with_the_reason(
    tmp_path: Path, command_line: CommandLine
) -> None:
    small = [
        "generator=renderer", "captioner=dataset", "evaluator=[planted]", "neurons.layers=[concepts]",
        "neurons.units=[0,9]", "probe.n_images=60", "report=false",
    ]  # fmt: skip
    with chat_server(lambda n: "filtered") as server:
        words = [*overrides(server, tmp_path), *small]
        asked, stored = command_line(words), command_line(words)
        assert "gpt-4o-mini refused" in asked.stderr
        for done in (asked, stored):
            assert done.returncode == 1
            assert "no neuron got a candidate concept" in done.stderr
            assert "warning" not in done.stderr
    assert len(list((tmp_path / "mlruns" / "runs").glob("*/result.json"))) == 2


def test_only_so_many_questions_are_on_their_way(tmp_path: Path) -> None:
    with chat_server() as server:
        summarizer(server, tmp_path, "summarizer.chat.concurrency=3").summarize(CAPTIONS, n=5, seed=0)
    assert server.most_at_once == 3


def test_a_budget_waits_for_answers_on_their_way(tmp_path: Path) -> None:
    # one answer is feared to cost more than 0.0001 dollars: few at a time, but it costs 0.000018
    with chat_server() as server:
        model = summarizer(
            server, tmp_path, "summarizer.chat.budget=0.0006", "summarizer.chat.concurrency=17"
        )
        model.summarize(CAPTIONS, n=5, seed=0)
    assert len(server.paid) == 17
    assert 1 <= server.most_at_once <= 6


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    # an answer costs 0.000018 dollars, and is feared to cost more than 0.0001
    with chat_server() as server:
        small = summarizer(server, tmp_path, "summarizer.chat.budget=0.0003", "summarizer.chat.concurrency=8")
        with pytest.raises(BudgetSpentError, match=r"budget=0\.0003: .* dollars are spent"):
            small.summarize(CAPTIONS, n=5, seed=0)
        paid = len(server.paid)
        assert 0 < paid < 17
        assert small.usage.totals["dollars"] <= 0.0003
        summarizer(server, tmp_path, "summarizer.chat.budget=1").summarize(CAPTIONS, n=5, seed=0)
    assert set(server.paid.values()) == {1}


def wait_for(done: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """However long its imports take on this machine; a process that has ended will never be done."""
    while not done():
        assert process.poll() is None, "the process ended too early"
        time.sleep(0.02)


def answers_in(store: Path) -> int:
    return len([path for path in store.glob("answers/*/*") if not path.name.endswith(".partial")])


def test_answers_that_came_before_a_kill_are_kept(tmp_path: Path) -> None:
    script = (
        "from dnr_bench.app.composition import load_config\n"
        "from dnr_bench.app.parts import PartBuilder\n"
        "from dnr_bench.protocols import Summarizer\n"
        "from tests.helpers.captions import said\n"
        "import sys\n"
        "builder = PartBuilder(load_config(*sys.argv[1:]))\n"
        "builder.part('summarizer', Summarizer).summarize(said(['a', 'b']), 40, 0)\n"
    )
    with chat_server(lambda n: "hang" if n >= 20 else None) as server:
        words = overrides(
            server,
            tmp_path,
            "simplify_captions=false",
            "summarizer.chat.timeout=60",
            "summarizer.attempts=1",
        )
        process = subprocess.Popen([sys.executable, "-c", script, *words])
        # eight hang, twenty were answered and are on the disk
        wait_for(lambda: len(server.requests) == 28 and answers_in(tmp_path / "store") == 20, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(server.paid) == 20
        server.fault = lambda n: None
        summarizer(server, tmp_path, *words[4:]).summarize(said(["a", "b"]), n=40, seed=0)
        assert list(server.paid.values()) == [1] * 40


def test_what_is_on_its_way_at_an_interruption_is_kept(tmp_path: Path) -> None:
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "from dnr_bench.chats import openai\n"
        "stop = openai._Exchange._stop\n"
        "def told(*given):\n"
        "    stop(*given)\n"
        "    print('told to stop', file=sys.stderr, flush=True)\n"
        "openai._Exchange._stop = told\n"
        "from dnr_bench.app.composition import load_config\n"
        "from dnr_bench.app.parts import PartBuilder\n"
        "from dnr_bench.protocols import Summarizer\n"
        "from tests.helpers.captions import said\n"
        "builder = PartBuilder(load_config(*sys.argv[1:]))\n"
        "builder.part('summarizer', Summarizer).summarize(said(['a', 'b']), 40, 0)\n"
    )
    answering, all_asked = threading.Event(), 8  # as many as are asked at a time
    with chat_server(lambda n: None if answering.wait(60) else "500") as server:
        words = overrides(server, tmp_path, "simplify_captions=false", "summarizer.chat.timeout=60")
        process = subprocess.Popen([sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(server.requests) == all_asked, process)  # none of them is answered yet
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.readline() == "told to stop\n"
        answering.set()
        process.communicate()
        assert process.returncode != 0
        assert len(server.paid) == all_asked == answers_in(tmp_path / "store")
        summarizer(server, tmp_path, *words[4:]).summarize(said(["a", "b"]), n=40, seed=0)
        assert list(server.paid.values()) == [1] * 40


def test_a_key_with_a_line_break_works_and_one_that_is_none_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with chat_server(lambda n: "500" if n else None) as server:
        with pytest.raises(RunError) as raised:
            summarizer(server, tmp_path, "summarizer.chat.attempts=1").summarize(CAPTIONS, n=1, seed=0)
        assert server.keys == {KEY}
    assert KEY[:14] not in str(raised.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-…")
    with pytest.raises(UsageError, match="OPENAI_API_KEY holds characters that no key has"):
        summarizer(server, tmp_path)


def test_further_fields_reach_the_server(tmp_path: Path) -> None:
    with chat_server() as server:
        more = "summarizer.chat.extra={top_k: 20, temperature: null, seed: 7}"
        summarizer(server, tmp_path, more).summarize(CAPTIONS[:1], n=1, seed=0)
    assert {request["top_k"] for request in server.requests} == {20}
    assert {request["seed"] for request in server.requests} == {7}
    assert not any("temperature" in request for request in server.requests)


@pytest.mark.parametrize(
    "word",
    [
        "summarizer.chat.base_url=http://me:hunter2@host/v1",
        "summarizer.chat.key_env=sk-hunter2hunter2hunter2",
    ],
)
def test_command_lines_with_secrets_are_refused_before_anything_is_written(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(lambda: pytest.fail("the command ran"), ["summarizer=openai", word]) == 2
    said = capsys.readouterr().err
    assert "looks as if it held a password or a key" in said
    assert "hunter2" not in said


def test_command_lines_without_secrets_are_not_refused() -> None:
    words = [
        "probe.path=hf_datasets_and_other_things/sk-learn",
        "summarizer.chat.base_url=http://host:8000/v1",
    ]
    assert exit_code_of(lambda: 0, words) == 0


def test_a_chat_model_that_sees_captions_images_and_proposes(tmp_path: Path) -> None:
    pictures = [np.full((40 + i, 30, 3), 20 * i, np.uint8) for i in range(4)]
    views = [View.of(picture) for picture in pictures]
    with chat_server() as server:
        captioner = build(
            load_config(*overrides(server, tmp_path, part="captioner")).captioner, Captioner, "c"
        )
        assert list(captioner.caption(views)) == ["A picture of something"] * 4
        assert list(captioner.caption(views[:2])) == ["A picture of something"] * 2
        assert len(server.requests) == 4
        words = [w.replace("proposer", "summarizer") for w in overrides(server, tmp_path, part="proposer")]
        proposer = build(load_config(*words).summarizer, Proposer, "p")
        assert proposer.propose([views, views[:2]], n=2, seed=0) == [["4 pictures"], ["2 pictures"]]
    assert len(server.requests) == 8


def test_runs_with_a_language_model_leave_no_key_anywhere(tmp_path: Path, command_line: CommandLine) -> None:
    def fault(n: int) -> str | None:
        if server.requests[n]["temperature"] == 0.4:  # of the second job, which fails
            return "500"
        return {3: "429", 5: "500", 9: "truncated"}.get(n)

    units = [
        "generator=renderer",
        "neurons.layers=[concepts]",
        "neurons.units=[0,9,20]",
        "probe.n_images=200",
    ]
    words = [*units, "images_per_concept=3", "evaluator=[planted,cost]", "captioner=dataset", "debug=true"]
    with chat_server(fault) as server:
        jobs = ["-m", *overrides(server, tmp_path), "summarizer.temperature=0.3,0.4"]
        done = command_line([*jobs, *words])
    assert server.keys == {KEY}
    assert done.returncode == 1
    assert "did not answer: HTTP 500: cannot serve Bearer ***" in done.stderr
    assert "Traceback" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert any(tmp_path.rglob("*"))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY[:14].encode() not in path.read_bytes(), path
    (path,) = (tmp_path / "mlruns" / "runs").rglob("result.json")
    result = RunResult.read(path)
    used = result.usage["summarizer"]
    assert used.model == "gpt-4o-mini"
    assert used.asked > 15
    assert result.metrics["cost.tokens_per_neuron"].mean == pytest.approx(105 * used.asked / 3)
    assert result.metrics["cost.dollars_per_neuron"].mean > 0
    assert len(path.with_name("calls.jsonl").read_text().splitlines()) == used.asked
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        (n_traces,) = database.execute("select count(*) from trace_info").fetchone()
        (linked,) = database.execute(
            "select count(*) from trace_request_metadata where key = 'mlflow.sourceRun'"
        ).fetchone()
    assert n_traces == linked == min(used.asked, 100)


def test_what_was_asked_is_told() -> None:
    used = ChatUsage("m", 78.0, 2.0, prompt_tokens=8000.0, completion_tokens=190.0, dollars=0.0014)
    line = usage_line("summarizer", used)
    assert line == (
        "summarizer asked m 78 questions (8190 tokens, 0.0014 dollars); 2 answers came from the store"
    )
    assert "dollars" not in usage_line("summarizer", replace(used, dollars=None))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["summarizer.temperature=3"], r"summarizer\.temperature=3 must lie in 0\.\.2"),
        (["summarizer.chat.concurrency=0"], r"concurrency=0 must be at least 1"),
        (["summarizer.chat.budget=1", "summarizer.chat.model=x"], r"budget=1 .* needs the prices of 'x'"),
        (["summarizer.chat.prices=[[x,1]]"], r"\['x', 1\] must be a model and two numbers"),
        (["summarizer.chat.key_env=sk-hunter2"], r"key_env must be the name of an environment variable"),
        (["summarizer.chat.extra={model:x}"], r"\['model'\] are not yours to set here"),
        (["summarizer.chat.base_url=http://me:hunter2@host/v1"], r"base_url holds a name, a password or"),
        (["summarizer.chat.base_url=host"], r"must be an address like http"),
        (["summarizer.summarize=conf/prompts/simplify.txt"], r"summarize='conf/prompts/simplify.txt' must"),
        (["summarizer.summarize=nowhere.txt"], r"summarize='nowhere.txt' cannot be read"),
        (["summarizer.replay=sometimes"], r"replay='sometimes' is not of type"),
        (["summarizer.chat.modle=x"], "modle"),
    ],
)  # fmt: skip
def test_wrong_settings_say_what_is_allowed(more: list[str], message: str, tmp_path: Path) -> None:
    server = Server(url="http://127.0.0.1:9/v1")
    with pytest.raises((UsageError, Exception), match=message) as raised:
        summarizer(server, tmp_path, *more)
    assert "hunter2" not in str(raised.value)


def test_a_missing_key_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    config = load_config("summarizer=openai", f"paths.store={tmp_path}").summarizer
    with pytest.raises(UsageError, match="environment variable OPENAI_API_KEY is not set"):
        build(config, Summarizer, "summarizer")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Red circles.", "red circles"),
        ('  1. "Red Circles"\n2. blue', "red circles"),
        ("Label: **dotted things**", "dotted things"),
        ("- The label is: striped ring", "striped ring"),
        ("\n\n", None),
        ("...", None),
        ("a b c d e f g h i", None),
        ("2 or 3 stars", "2 or 3 stars"),
        ("St. Bernard", "st. bernard"),
        ("Here is the label:\n\nRed dogs", "red dogs"),
        ("Sure! Here's a label:\n**Red dogs**", "red dogs"),
        ("**Label**: red dogs", "red dogs"),
        ("<think>\nOkay, so\n</think>\n\nred dogs", "red dogs"),
        ("<think>\nOkay, so", None),
        ("I'm sorry, I can't help with that.", None),
        ("I’m sorry.", None),
    ],
)
def test_answers_are_cleaned(text: str, label: str | None) -> None:
    assert label_of(text, max_words=8) == label


def test_a_label_that_was_cut_off_is_none() -> None:
    assert label_of("red dogs on a", 8, stopped="length") is None
    assert label_of("red dogs\nbecause", 8, stopped="length") == "red dogs"


def test_a_first_line_keeps_its_case() -> None:
    assert first_line("Caption: A Red dog.\nmore") == "A Red dog"


def test_braces_in_captions_stay_braces(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("Say {caption}!\n")
    prompt = read_prompt(str(path), "simplify", ["caption"])
    assert filled(prompt, caption="{caption} {other}") == "Say {caption} {other}!"


def test_an_answer_book_counts_what_it_had(tmp_path: Path) -> None:
    with chat_server() as server:
        book = AnswerBook(chat(server), Store(tmp_path), None)
        questions = [Question("one"), Question("two"), Question("one")]
        first = book.answers(questions)
        assert first[0] == first[2]
        assert (len(server.requests), book.usage.stored) == (2, 1)
        book.answers(questions)
        assert (len(server.requests), book.usage.stored) == (2, 4)
    assert os.listdir(tmp_path / "answers")


def test_proposers_take_the_place_of_captions_in_a_run(
    tmp_path: Path, small_run: Callable[..., RunConfig]
) -> None:
    with chat_server() as server:
        words = ["summarizer=openai_images", f"summarizer.chat.base_url={server.url}", "evaluator=[planted]"]
        result = run(small_run(*words, "neurons.units=[0,9]", "refine=iterative", "refine.max_iterations=1"))
    assert all(record.labels[0].endswith("pictures") for record in result.neurons)
    assert {c.origin for record in result.neurons for c in record.candidates} <= {"captions", "refined"}
    assert "captions" not in result.stages
    assert result.usage["summarizer"].asked == len(server.requests)


def local(checkpoint: str, *more: str) -> LocalChat:
    words = ["summarizer=local", f"summarizer.chat.checkpoint={checkpoint}", *more]
    built = build(load_config(*words).summarizer.chat, Chat, "chat")
    assert isinstance(built, LocalChat)
    return built


def texts(chat: LocalChat, questions: Sequence[Question]) -> list[str]:
    return [answer.text for _, answer in sorted(chat.ask(questions), key=lambda found: found[0])]


@pytest.mark.parametrize("kind", ["llama", "gguf"])
def test_a_local_answer_depends_on_its_question_and_seed_alone(kind: str, small: SmallModels) -> None:
    chat = local(getattr(small, kind))
    assert chat.name in ("llama", "small.gguf")
    questions = [Question(f"{'many words ' * i}?", (), 1.0, seed) for i in range(3) for seed in (1, 2)]
    answers = texts(chat, questions)
    assert texts(chat, questions[::-1]) == answers[::-1]
    assert [texts(chat, [question])[0] for question in questions] == answers
    assert texts(local(getattr(small, kind), "summarizer.chat.batch_size=2"), questions) == answers
    assert answers[0] != answers[1]  # another seed
    cold = [Question("many words?", (), 0.0, seed) for seed in (1, 2)]
    assert len(set(texts(chat, cold))) == 1


def test_local_sampling_follows_the_models_probabilities(small: SmallModels) -> None:
    chat = local(small.llama, "summarizer.chat.max_tokens=1")
    loaded = chat._loaded()
    inputs = loaded.tokenizer(chat._prompt(Question("red?")), return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        logits = loaded.model(input_ids=inputs["input_ids"]).logits[0, -1]
    likely = int(logits.argmax())
    expected = float(torch.softmax(logits / 0.5, dim=0)[likely])
    answers = [a for _, a in chat.ask([Question("red?", (), 0.5, seed) for seed in range(1500)])]
    word = loaded.tokenizer.decode([likely], skip_special_tokens=True)
    found = np.mean([answer.text == word for answer in answers])
    others = float(
        sum(
            torch.softmax(logits / 0.5, dim=0)[i]
            for i in range(len(logits))
            if i != likely and loaded.tokenizer.decode([i], skip_special_tokens=True) == word
        )
    )
    assert found == pytest.approx(expected + others, abs=0.04)


def test_a_local_model_summarizes_a_run(small: SmallModels, small_run: Callable[..., RunConfig]) -> None:
    words = ["summarizer=local", f"summarizer.chat.checkpoint={small.llama}", "evaluator=[planted]"]
    result = run(small_run(*words, "neurons.units=[0,9]", "captioner=dataset", "n_candidates=2"))
    used = result.usage["summarizer"]
    assert used.model == "llama"
    assert used.asked >= 4
    assert used.dollars == 0


def test_what_is_no_language_model_is_said(small: SmallModels, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"checkpoint='.*gone\.gguf' is no file"):
        local(str(tmp_path / "gone.gguf"))
    (tmp_path / "no.gguf").write_bytes(b"no")
    with pytest.raises(UsageError, match="is no causal language model"):
        local(str(tmp_path / "no.gguf"))
    with pytest.raises(UsageError, match="is no causal language model"):
        list(local(small.blip).ask([Question("?")]))  # loaded for the first question
    with pytest.raises(UsageError, match="sees no images"):
        list(local(small.llama).ask([Question("?", (np.zeros((4, 4, 3), np.uint8),))]))


def test_worked_examples_that_come_back_are_no_labels() -> None:
    prompt = read_prompt("conf/prompts/summarize_small.txt", "summarize", ["captions"])
    assert examples_in(prompt) == {"knitted violins", "cube shaped ice"}
    assert is_parroted("Knitted violins", examples_in(prompt), ["a red ring", "a blue star"])
    assert not is_parroted("knitted violins", examples_in(prompt), ["two violins", "a cello"])
    assert not is_parroted("red ring", examples_in(prompt), ["a red ring"])


@pytest.mark.parametrize("name", ["summarize", "summarize_small"])
def test_an_answer_that_repeats_an_example_is_asked_for_again(name: str, tmp_path: Path) -> None:
    prompt = read_prompt(f"conf/prompts/{name}.txt", "summarize", ["captions"])
    example = min(examples_in(prompt))
    given = iter([example, "red things", example, example])

    class Parrot:
        name = fingerprint = "parrot"

        def check(self) -> None: ...

        def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
            for place, _ in enumerate(questions):
                yield place, Answer(next(given), "stop", 1, 1, 0.0, 0.0, 0.0)

    book = AnswerBook(Parrot(), Store(tmp_path), None)
    items = [["a red ring", "a red star"]]
    sampling = LabelSampling(temperature=0.5, max_words=5, attempts=2)

    def show(item: int, order: Sequence[int]) -> tuple[str, tuple[()]]:
        return prompt, ()

    assert sampling.labels(book, items, show, 1, 0, examples_in(prompt)) == [["red things"]]
    assert sampling.labels(book, items, show, 1, 1, examples_in(prompt)) == [[]]
