"""Rating studies: what is built, which answers are refused, what follows, and how they are collected."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from starlette.testclient import TestClient

from dnr_bench.app.rate import analyze, build, plan
from dnr_bench.app.rate.analyze import analyze_study
from dnr_bench.app.rate.serve import AnswerBook, application
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.results.ratings.analysis import correlation_of, ratings_of
from dnr_bench.results.ratings.answers import collect, read_page
from dnr_bench.results.ratings.design import said
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.results.ratings.study import CHANCE, Study
from dnr_bench.results.ratings.validity import Rules, filtered
from dnr_bench.results.schema import RunResult
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.raters import Rater, crowd, page_answers
from tests.conftest import SMALL, CommandLine, built_run
from tests.helpers.rating_studies import METHODS, PLANTED, WORLD, answered, built, careless, changed, runs

BuildRun = Callable[..., RunConfig]
SMALL_STUDY = ("--raters", "4", "--per-item", "2", "--checks", "1")
HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    built(folder, *SMALL_STUDY)
    return folder


@pytest.fixture
def study(built_once: Path, tmp_path: Path) -> Study:
    """In this test's folder, with the runs beside it."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    return Study.read(tmp_path / "study")


# building


def test_every_neuron_is_judged_as_often_as_asked_and_labels_are_shown_once(study: Study) -> None:
    asked = [turn.item for page in study.pages for turn in page.turns]
    real = [item for item in study.items if not item.is_check]
    assert sorted(item.neuron for item in real) == sorted(str(unit.neuron) for unit in PLANTED)
    assert all(asked.count(item.id) == 2 for item in real)
    assert {len(page.turns) for page in study.pages} == {6}  # five neurons and a check each
    for item in real:
        texts = [label.text.lower() for label in item.labels]
        assert len(texts) == len(set(texts))
        methods = [method for label in item.labels for method in label.methods]
        assert sorted(methods) == sorted([*METHODS, CHANCE])
    assert all(page.turns[0].item in {item.id for item in real} for page in study.pages)  # no check first


def test_pages_tell_neither_methods_nor_neurons_nor_known_answers(study: Study, tmp_path: Path) -> None:
    for page in study.pages:
        text = (tmp_path / f"study/pages/{page.id}.html").read_text()
        for secret in (*METHODS, CHANCE, "concepts:", '"neuron"', '"expected"', '"methods"'):
            assert secret not in text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text


def test_orders_differ_between_raters_and_are_the_same_for_a_seed(study: Study, tmp_path: Path) -> None:
    orders = {turn.order for page in study.pages for turn in page.turns}
    assert len(orders) > 3
    again = built(tmp_path / "again", *SMALL_STUDY)
    assert again.items == study.items
    turns = [[page.turns for page in one.pages] for one in (study, again)]
    assert turns[0] == turns[1]
    assert not {page.id for page in study.pages} & {page.id for page in again.pages}  # nobody can guess them
    assert built(tmp_path / "other", *SMALL_STUDY, "--seed", "1").items != study.items


def test_a_sample_of_neurons_and_neurons_without_a_label(tmp_path: Path) -> None:
    few = built(tmp_path, *SMALL_STUDY, "--neurons", "4", "--no-chance")
    assert len(few.neurons) == 4
    assert CHANCE not in few.methods
    words = runs(tmp_path / "more")
    folder = Path(words[0].partition("=")[2])
    content = json.loads((folder / "result.json").read_text())
    content["neurons"][0]["labels"] = []
    (folder / "result.json").write_text(json.dumps(content))
    assert build.main([*words, "--into", str(tmp_path / "gap"), *SMALL_STUDY]) == 0
    assert Study.read(tmp_path / "gap").unlabeled["first_rate"] == (str(PLANTED[0].neuron),)


def test_a_weighted_sum_is_shown_with_its_signs() -> None:
    assert said(("red", "star", "dotted"), (0.5, -0.2, 0.1)) == "red \N{MINUS SIGN} star + dotted"
    assert said(("red", "a second label"), ()) == "red"
    assert said((), ()) == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--raters", "2", "--per-item", "3"], "per_item=3 raters for each item cannot be had from raters=2"),
        (["--neurons", "0"], "neurons=0 must be at least 1"),
        (["--raters", "11", "--per-item", "1"], "--raters 11: 10 items, each for 1, are work for 10 at most"),
        (["--neurons", "11"], "--neurons 11: the runs have 10 labeled neurons in common"),
        (["--shown", "0"], "shown=0 must be at least 1"),
        (["--post", "ftp://x"], "is no address"),
        (["--asks", "nothing"], "invalid choice"),
        (["blur=2"], "and your settings lead to"),
        (["--asks", "pictures"], "and your settings lead to"),
    ],
)
def test_what_cannot_be_built_is_said(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        built(tmp_path, *words)
    assert not (tmp_path / "study/study.json").exists()


def test_runs_need_different_names_and_a_folder_is_not_written_over(study: Study, tmp_path: Path) -> None:
    run = runs(tmp_path / "x")[0].partition("=")[2]
    with pytest.raises(UsageError, match="two runs are called 'a'"):
        build.main([f"a={run}", f"a={run}", "--into", str(tmp_path / "two")])
    with pytest.raises(UsageError, match="holds a study already"):
        build.main([f"a={run}", "--into", str(tmp_path / "study")])
    with pytest.raises(UsageError, match="no run is named"):
        build.main(["blur=2"])
    with pytest.raises(UsageError, match=r"run='typo.*cannot be read"):
        build.main([f"a={run}", "B=typo"])


def test_runs_of_two_networks_are_not_mixed(tmp_path: Path) -> None:
    words = runs(tmp_path)
    folder = Path(words[0].partition("=")[2])
    content = json.loads((folder / "result.json").read_text())
    content["config"] = {"target": {"name": "another"}}
    (folder / "result.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="describe different networks"):
        build.main([*words, "--into", str(tmp_path / "study")])


def test_labels_that_would_break_out_are_text(tmp_path: Path) -> None:
    words = runs(tmp_path)
    folder = Path(words[0].partition("=")[2])
    content = json.loads((folder / "result.json").read_text())
    content["neurons"][0]["labels"] = ["</script><script>alert(1)</script>"]
    content["neurons"][1]["labels"] = ["=HYPERLINK(1)"]
    (folder / "result.json").write_text(json.dumps(content))
    assert build.main([*words, "--into", str(tmp_path / "s"), *SMALL_STUDY]) == 0
    for page in (tmp_path / "s/pages").iterdir():
        assert "<script>alert" not in page.read_text()
    rows = list(csv.DictReader((tmp_path / "s/platforms/mturk.csv").open()))
    cells = [cell for row in rows for cell in row.values()]
    assert "'=HYPERLINK(1)" in cells
    assert not any(cell.startswith("=") for cell in cells)


# answers


def test_careful_people_put_methods_in_their_order(study: Study, tmp_path: Path) -> None:
    found = analyze_study(study, answered(study, tmp_path / "answers"), Rules())
    rows = {row["method"]: row for row in found.tables[0].rows}
    means = [rows[method]["rating"] for method in METHODS]
    assert means == sorted(means, reverse=True)
    assert rows[CHANCE]["rating"] < 2.5
    assert found.chance == rows[CHANCE]["rating"]
    assert sum(row["best"] for row in rows.values()) == pytest.approx(1.0)
    assert found.pages == (4, 4)
    assert all(row["rating.low"] <= row["rating"] <= row["rating.high"] for row in rows.values())
    tables = {table.name: table.rows for table in found.tables}
    pair = next(
        r for r in tables["rating_differences"] if (r["before"], r["after"]) == ("first_rate", "fourth_rate")
    )
    assert pair["difference"] < -1
    assert pair["p"] < 0.05
    assert pair["p"] <= pair["p_holm"]
    strengths = {row["method"]: row["strength"] for row in tables["strengths"]}
    assert strengths["first_rate"] > strengths["fourth_rate"]
    assert tables["agreement"][0]["alpha"] > 0.3


def test_methods_that_say_the_same_share_ratings_and_halve_the_best(study: Study, tmp_path: Path) -> None:
    kept = collect(answered(study, tmp_path / "answers"), study).answers
    ratings = ratings_of(kept, study)
    item = next(i for i in study.items if any(len(label.methods) > 1 for label in i.labels))
    for rater in dict.fromkeys(r.rater for r in ratings if r.neuron == item.neuron):
        of_one = [r for r in ratings if (r.rater, r.neuron) == (rater, item.neuron)]
        assert sum(r.best for r in of_one) == pytest.approx(1.0)
        for label in item.labels:
            shared = {(r.value, r.best) for r in of_one if r.method in label.methods}
            assert len(shared) == 1
            assert next(iter(shared))[1] in (0.0, 1 / len(label.methods))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(study="0" * 16), "these are answers to another study"),
        (lambda c: c.update(rater=HTML), "the rater's name .* must be up to 64 letters"),
        (lambda c: c["answers"].pop(), "1 of 6 answers are missing"),
        (lambda c: c["answers"].append(c["answers"][0]), "is answered 2 times"),
        (lambda c: c.update(page="nobody"), "the study has no page 'nobody'"),
        (lambda c: c["answers"][0].update(item=HTML), "the study has no item '<img"),
        (lambda c: c["answers"][0].update(note=HTML), "a page of raters does not write this"),
        (lambda c: c["answers"][0].update(best=HTML), "the best label '<img"),
        (lambda c: c["answers"][0].update(seconds=float("nan")), "must lie in 0..86400"),
        (lambda c: c["answers"][0].update(seconds="1"), "a page of raters does not write this"),
        (lambda c: c["answers"][0].update(chosen=[0]), "asks for ratings, and pictures are chosen"),
        (lambda c: c["answers"][0]["ratings"].update({HTML: 3}), "not each of its .* labels is rated"),
        (lambda c: c["answers"][0]["ratings"].update(l0=6), "rating 6 must lie in 1..5"),
        (lambda c: c["answers"][0]["ratings"].update(l0="5"), "a page of raters does not write this"),
        (lambda c: c["answers"][0]["ratings"].update(l0=True), "a page of raters does not write this"),
        (lambda c: c.update(format="something"), "these are no answers of a rating page"),
    ],
)
def test_hostile_answers_are_refused_and_told(change, message: str, study: Study, tmp_path: Path) -> None:
    files = answered(study, tmp_path / "answers")
    content = json.loads(files[0].read_text())
    change(content)
    files[0].write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        read_page(files[0].read_text(), study, "")
    found = collect(files, study)  # the others count
    assert len(found.answers) == 3
    assert [one.source for one in found.refused] == [files[0].name]


def table(found: RatingResult, name: str):
    return next(table.rows for table in found.tables if table.name == name)


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, "null", "\0", '{"format": 1}'])
def test_what_is_no_answer_at_all_is_refused(content: str, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    found = collect([path], study)
    assert not found.answers
    assert len(found.refused) == 1
    with pytest.raises(UsageError, match=r"no answer counts:\nbroken\.json"):
        analyze_study(study, [path], Rules())


def test_a_page_counts_once_whatever_the_file(study: Study, tmp_path: Path) -> None:
    files = answered(study, tmp_path / "answers")
    copy = tmp_path / "copy.json"
    copy.write_bytes(files[0].read_bytes())
    found = collect([*files, copy], study)
    assert len(found.answers) == 4
    assert found.refused[0].source == "copy.json"
    assert "was answered already" in found.refused[0].reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("random", "attention checks"), ("same", "attention checks"), ("hasty", "attention checks")],
)
def test_careless_raters_are_left_out_with_a_reason(kind: str, reason: str, tmp_path: Path) -> None:
    study = built(tmp_path, "--raters", "4", "--per-item", "4", "--checks", "2")
    people = [careless(kind), *[careless("careful")] * 3]
    kept, dropped = filtered(collect(answered(study, tmp_path / "a", people), study).answers, study, Rules())
    assert len(kept) == 3
    assert reason in dropped[0].reason
    lenient = Rules(missed_checks=1.01, consistent=False)
    files = answered(study, tmp_path / "b", people)
    kept, dropped = filtered(collect(files, study).answers, study, lenient)
    other = {"same": "same answer to", "hasty": "for the median item"}
    if kind in other:
        assert any(other[kind] in one.reason for one in dropped)
    else:
        assert len(kept) == 4  # random answers in good time show in checks alone


def test_an_answer_that_contradicts_itself_does_not_count(study: Study, tmp_path: Path) -> None:
    files = answered(study, tmp_path / "answers")
    content = json.loads(files[0].read_text())
    answer = next(a for a in content["answers"] if not study.by_item[a["item"]].is_check)
    answer["ratings"] = dict.fromkeys(answer["ratings"], 5) | {answer["best"]: 1}
    files[0].write_text(json.dumps(content))
    given = collect(files, study).answers
    kept, dropped = filtered(given, study, Rules())
    assert [(one.items, one.reason) for one in dropped] == [
        (1, "the best label is not among those rated highest")
    ]
    assert sum(len(k.answers) for k in kept) == sum(len(g.answers) for g in given) - 4 - 1  # and four checks
    assert not filtered(given, study, Rules(consistent=False))[1]


def test_people_of_the_same_name_are_told_apart(study: Study, tmp_path: Path) -> None:
    files = answered(study, tmp_path / "answers")
    for file in files[:2]:
        changed(file, rater="Alex")
    shared = set.intersection(*({t.item for t in page.turns} for page in study.pages[:2]))
    pages = {json.loads(file.read_text())["page"] for file in files[:2]}
    names = {answers.rater for answers in collect(files, study).answers}
    assert names >= ({f"Alex ({page})" for page in pages} if shared else {"Alex"})
    assert len(names) == (4 if shared else 3)


# platforms


def test_results_of_mturk_are_read(study: Study, tmp_path: Path) -> None:
    items = list(csv.DictReader((tmp_path / "study/platforms/mturk.csv").open()))
    assert {row["item"] for row in items} == {item.id for item in study.items}
    rows = []
    for worker in ("A1", "B2"):
        for row in items:
            item = study.by_item[row["item"]]
            ratings = item.expected or tuple(
                1 + round(4 * WORLD.worth(item.neuron, label.text)) for label in item.labels
            )
            fields = {f"Answer.rating_{n}": value for n, value in enumerate(ratings, start=1)}
            best = 1 + ratings.index(max(ratings))
            given = {f"Input.{k}": v for k, v in row.items()} | fields
            rows.append({"WorkerId": worker, "WorkTimeInSeconds": "9", **given, "Answer.best": best})
    answer = {k.removeprefix("Answer."): v for k, v in rows[3].items() if k.startswith("Answer.")}
    rest = {k: v for k, v in rows[3].items() if not k.startswith("Answer.")}
    radios = {name: {str(n): n == int(value) for n in range(1, 6)} for name, value in answer.items()}
    rows[3] = {**rest, "Answer.taskAnswers": json.dumps([radios])}  # forms without flattened answers
    rows += [rows[0], {**rows[1], "Input.study": "another"}, {**rows[2], "Answer.rating_1": "9"}]
    rows.append({**rows[4], "WorkerId": "C3", "AssignmentStatus": "Rejected"})
    path = tmp_path / "batch.csv"
    with path.open("w") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    found = collect([path], study)
    assert [answers.rater for answers in found.answers] == ["A1", "B2"]
    reasons = " ".join(one.reason for one in found.refused)
    assert len(found.refused) == 4
    for part in ("A1 answered item", "another study", "rating 9 must lie in", "was rejected"):
        assert part in reasons
    assert analyze_study(study, [path], Rules()).tables[0].rows[0]["rating"] == 5.0  # the truth, always


def test_exports_of_label_studio_are_read(study: Study, tmp_path: Path) -> None:
    tasks = []
    for item in study.items:
        ratings = item.expected or (3,) * len(item.labels)
        result = [
            {"from_name": f"rating_{n}", "type": "rating", "value": {"rating": value}}
            for n, value in enumerate(ratings, start=1)
        ]
        best = str(1 + ratings.index(max(ratings)))
        result.append({"from_name": "best", "type": "choices", "value": {"choices": [best]}})
        annotations = [
            {"completed_by": 7, "lead_time": 8.5, "was_cancelled": False, "result": result},
            {"completed_by": {"id": 8}, "lead_time": 9, "was_cancelled": False, "result": result},
            {"completed_by": 9, "lead_time": 1, "was_cancelled": True, "result": []},
        ]
        tasks.append({"data": {"study": study.id, "item": item.id}, "annotations": annotations})
    tasks[0]["annotations"][1]["result"] = []
    path = tmp_path / "export.json"
    path.write_text(json.dumps([*tasks, {"data": {}}, 5]))
    found = collect([path], study)
    assert {answers.rater for answers in found.answers} == {"annotator 7", "annotator 8"}
    assert len(found.refused) == 3
    assert "labels are not rated" in found.refused[0].reason
    rules = Rules(straight=1.0)
    assert {row["rating"] for row in table(analyze_study(study, [path], rules), "ratings")} == {3.0}


# collecting


def test_a_server_hands_out_pages_and_keeps_answers(study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    files = {json.loads(f.read_text())["page"]: f.read_text() for f in answered(study, tmp_path / "a")}
    app = application(folder)
    seen = []
    for _ in study.pages:
        with TestClient(app) as client:
            reply = client.get("/", follow_redirects=False)
            page = reply.headers["location"].removeprefix("/page/")
            assert client.get("/", follow_redirects=False).headers["location"] == f"/page/{page}"
            shown = client.get(f"/page/{page}")
            assert '"post": "/answers"' in shown.text
            assert "connect-src &#39;self&#39;" in shown.text or "connect-src 'self'" in shown.text
            assert client.post("/answers", content=files[page]).status_code == 200
            assert client.post("/answers", content=files[page]).status_code == 200  # sent again: the same
            other = files[page].replace('"seconds": ', '"seconds": 1')
            refused = client.post("/answers", content=other)
            assert (refused.status_code, refused.text) == (400, f"page {page} was answered already")
            seen.append(page)
    assert sorted(seen) == sorted(page.id for page in study.pages)
    with TestClient(app) as client:
        assert "All pages of this study are taken" in client.get("/").text
        assert client.get("/progress").json() == {"pages": 4, "handed_out": 4, "answered": 4}
        assert client.get("/page/nobody").status_code == 404
        assert client.get("/page/..%2F..%2Fstudy.json").status_code == 404
        assert client.post("/answers", content=b"<html>").status_code == 400
        assert client.post("/answers", content=b"\xff").status_code == 400
        assert client.post("/answers", content=b"x" * (2 << 20)).status_code == 413
    assert analyze_study(study, [folder / "answers.db"], Rules()).pages == (4, 4)


def test_a_page_in_use_goes_to_nobody_else_until_it_was_left_lying(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, given = AnswerBook(tmp_path / "study/answers.db", study), []
    for _ in study.pages:
        given.append(book.hand_out())
    assert sorted(map(str, given)) == sorted(page.id for page in study.pages)
    assert book.hand_out() is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7 * 3600)
    assert book.hand_out() == given[0]


def test_the_name_that_a_platform_gives_reaches_the_page(study: Study, tmp_path: Path) -> None:
    with TestClient(application(tmp_path / "study")) as client:
        reply = client.get("/?PROLIFIC_PID=abc", follow_redirects=False)
    assert reply.headers["location"].endswith("?PROLIFIC_PID=abc")


def test_what_is_no_database_is_said(study: Study, tmp_path: Path) -> None:
    (tmp_path / "study/answers.db").write_text("no database")
    with pytest.raises(RunError, match="cannot be used"):
        application(tmp_path / "study")
    assert "no database of" in collect([tmp_path / "study/answers.db"], study).refused[0].reason
    with sqlite3.connect(tmp_path / "empty.db"):
        pass
    assert "no database of" in collect([tmp_path / "empty.db"], study).refused[0].reason


# results


def test_the_command_prints_writes_and_logs(study: Study, tmp_path: Path, command_line: CommandLine) -> None:
    folder = tmp_path / "study"
    files = answered(study, folder / "answers", seed=3)
    changed(files[0], rater=HTML)
    words = ["rate", "analyze", str(folder), str(folder / "answers"), "--mlruns", str(tmp_path / "m")]
    done = command_line(words)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "mean ratings",
        "Differences, paired",
        "Krippendorff",
        "Left out",
        "3 of 4 pages are answered",
    ):
        assert part in done.stdout
    page = (folder / "ratings.html").read_text()
    assert "pictures/m0.webp" in page
    assert HTML not in page
    assert HTML not in (folder / "ratings.md").read_text()
    read = RatingResult.read(folder)
    assert read.study == study.id
    assert {label.neuron for label in read.labels} == {str(unit.neuron) for unit in PLANTED}
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'm/mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("dnr_bench").experiment_id])
    assert run.data.metrics["ratings.rating.first_rate"] > run.data.metrics["ratings.rating.fourth_rate"]
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"ratings.json", "ratings.png", "ratings.html", "left_out.json"} <= names


def test_without_answers_or_with_another_file_it_is_said(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file of answers is named"):
        analyze.main([str(tmp_path / "study")])
    with pytest.raises(UsageError, match="is no rating study"):
        analyze.main([str(tmp_path / "first_rate/result.json"), "x"])
    with pytest.raises(UsageError, match="cannot be read"):
        analyze.main([str(tmp_path / "nowhere"), "x"])
    with pytest.raises(UsageError, match="is no result of `dnr-bench rate analyze`"):
        RatingResult.read(tmp_path / "study/study.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["pages"][0]["turns"][0].update(item="i999"),
        lambda c: c["items"][0].update(montage="../../x"),
        lambda c: c["pages"][0].update(id="../x"),
        lambda c: c["items"].append(c["items"][0]),
        lambda c: c.update(more=1),
        lambda c: c.update(schema=9),
        lambda c: c.pop("items"),
        lambda c: c["items"][0].update(labels=[]),
        lambda c: c["items"][0].update(images=[5]),
    ],
)
def test_a_changed_key_is_refused(change, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study/study.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"is no rating study|another version"):
        Study.read(path)


def test_a_table_of_others_is_analyzed_and_is_a_pilot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.csv"
    lines = [
        "Layer,Unit,A Label,B More Label,A E1 Rating,B E1 Rating,A E2 Rating,B E2 Rating,None E1,None E2"
    ]
    rng = np.random.default_rng(0)
    for unit in range(30):
        a, b = rng.integers(1, 4), rng.integers(3, 6)
        flag = "TRUE" if unit == 0 else "FALSE"
        other = "" if unit == 9 else min(a + 1, 5)
        lines.append(f'{unit % 2 + 1},{unit},"red, round",star,{a},{b},{other},{b},{flag},FALSE')
    path.write_text("\n".join(lines) + "\n")
    assert analyze.main([str(path), "--into", str(tmp_path), "--no-mlflow"]) == 0
    found = RatingResult.read(tmp_path)
    rows = {row["method"]: row for row in found.tables[0].rows}
    assert rows["A"]["ratings"] == 58
    assert rows["B"]["rating"] > rows["A"]["rating"]
    assert rows["B"]["best"] is None  # nobody was asked
    assert {row["layer"] for row in table(found, "ratings_by_layer")} == {"layer1", "layer2"}
    assert [row["reason"] for row in table(found, "left_out")] == ["flagged: None", "not rated"]
    assert plan.main(["--pilot", str(path), "--error", "0.2", "--raters", "40"]) == 0
    assert "detectable" in capsys.readouterr().out
    path.write_text(path.read_text().replace(",FALSE\n", ",perhaps\n", 1))
    with pytest.raises(UsageError, match="line 2: None E2 is 'perhaps' and must be true or false"):
        analyze.main([str(path), "--into", str(tmp_path)])


def test_ratings_stand_beside_other_metrics(small_run: BuildRun, study: Study, tmp_path: Path) -> None:
    analyze_study(study, answered(study, tmp_path / "answers"), Rules()).write(tmp_path)
    labels = tmp_path / "labels.csv"
    rows = "".join(f"concepts,{u.neuron.unit},{u.concept.upper()}\n" for u in PLANTED[:4])
    labels.write_text("layer,unit,label\n" + rows + "concepts,62,nothing that was rated\n")
    units = [unit.neuron.unit for unit in PLANTED[:4]] + [62]
    words = ("method=precomputed", f"method.path={labels}", "evaluator=[ratings]")
    where = (f"evaluator.ratings.file={tmp_path / 'ratings.json'}", f"neurons.units={units}")
    found: RunResult = run(small_run(*words, *where))
    metric = found.metrics["ratings.rating"]
    assert (metric.n, metric.unscored) == (4, 1)
    assert metric.mean > 4
    assert metric.chance < 2.5
    assert found.metrics["ratings.best"].mean > 0.5
    with pytest.raises(UsageError, match="of none of this"):
        run(small_run(*words, where[0], "neurons.units=[63]"))


# pictures


@pytest.fixture(scope="module")
def pictures_once(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """Of two runs, one with the truth and one with the other's, people say for single images what holds."""
    folder, units, words = tmp_path_factory.mktemp("built"), PLANTED[:2], []
    for name, shift in (("truth", 0), ("swapped", 1)):
        labels = folder / f"{name}.csv"
        said_of = [(unit, units[(place + shift) % 2].concept) for place, unit in enumerate(units)]
        rows = "".join(f"concepts,{unit.neuron.unit},{text}\n" for unit, text in said_of)
        labels.write_text(f"layer,unit,label\n{rows}")
        chosen = f"neurons.units={[unit.neuron.unit for unit in units]}"
        given = ("method=precomputed", f"method.path={labels}", "evaluator=[]", chosen)
        run(built_run(*SMALL, f"paths.store={shared_store}", *given)).write(folder / name)
        words.append(f"{name}={folder / name}")
    settings = ["neurons.layers=[concepts]", "probe.n_images=300", f"paths.store={shared_store}"]
    own = ["--asks", "pictures", "--images", "80", "--raters", "4", "--into", str(folder / "pictures")]
    assert build.main([*words, *own, *settings]) == 0
    return folder


@pytest.fixture
def pictures(pictures_once: Path, tmp_path: Path) -> Study:
    """In this test's folder, with the labels beside it."""
    shutil.copytree(pictures_once, tmp_path, dirs_exist_ok=True)
    return Study.read(tmp_path / "pictures")


SEEN = replace(
    WORLD,
    images=[next(iter(parse(text).alternatives)) for text in ShapesProbe(300).load(0).captions or ()],
)


def looked_at(study: Study, folder: Path, people: list[Rater]) -> list[Path]:
    folder.mkdir()
    for page, rater in zip(study.pages, people, strict=True):
        (folder / f"{page.id}.json").write_text(page_answers(study, page, rater, SEEN, 0))
    return sorted(folder.iterdir())


def test_pictures_tell_the_correlation_over_all_images(
    pictures: Study, tmp_path: Path, small_run: BuildRun
) -> None:
    assert len(pictures.samples) == 4
    images = [(item.labels[0].text, image) for item in pictures.items for image in item.images]
    assert len(images) == len(set(images))  # two neurons ask about a picture and label once
    files = looked_at(pictures, tmp_path / "answers", crowd(4, 0.0, 1))
    found = analyze_study(pictures, files, Rules())
    rows = {row["method"]: row for row in table(found, "correlations")}
    activations = small_run("neurons.layers=[concepts]").session().activations("concepts").values
    for sample, label in zip(pictures.samples, found.labels, strict=True):
        shown = [SEEN.shows(sample.label, image) for image in range(300)]
        unit = int(sample.neuron.rpartition(":")[2])
        true = float(np.corrcoef(np.asarray(activations[:, unit]), shown)[0, 1])
        assert label.correlation == pytest.approx(true, abs=4 * sample.planned + 0.05)
    assert rows["truth"]["correlation"] > 0.8 > 0.4 > rows["swapped"]["correlation"]
    assert table(found, "correlation_differences")[0]["difference"] < -0.4
    assert all(row["no_called_no"] > 0.8 for row in table(found, "reliability"))
    assert found.chance == 0.0
    analyze_study(pictures, files, Rules()).write(tmp_path)
    judged = run(
        small_run(
            "method=precomputed", f"method.path={tmp_path / 'truth.csv'}", "evaluator=[ratings]",
            f"evaluator.ratings.file={tmp_path / 'ratings.json'}",
            f"neurons.units={[unit.neuron.unit for unit in PLANTED[:2]]}",
        )
    )  # fmt: skip
    assert judged.metrics["ratings.correlation"].mean == pytest.approx(rows["truth"]["correlation"])


def test_who_chooses_nothing_is_left_out_and_a_page_of_ratings_does_not_fit(
    pictures: Study, tmp_path: Path
) -> None:
    people = [careless("same"), *crowd(3, 0.0, 1)]
    files = looked_at(pictures, tmp_path / "answers", people)
    found = analyze_study(pictures, files, Rules())
    assert "attention checks" in table(found, "left_out")[0]["reason"]
    content = json.loads(files[0].read_text())
    content["answers"][0]["chosen"] = [0, 0]
    with pytest.raises(UsageError, match="are not its pictures"):
        read_page(json.dumps(content), pictures, "")
    content["answers"][0] |= {"chosen": [], "ratings": {"l0": 3}}
    with pytest.raises(UsageError, match="asks for pictures, and labels are rated"):
        read_page(json.dumps(content), pictures, "")


def test_what_nobody_looked_at_is_not_left_to_the_model(pictures: Study) -> None:
    assert all(np.isnan(correlation_of(sample, {}).mean) for sample in pictures.samples)


def test_pages_of_pictures_are_written_for_platforms_too(pictures: Study, tmp_path: Path) -> None:
    folder = tmp_path / "pictures/platforms"
    assert '<Choice value="12"/>' in (folder / "label_studio.xml").read_text()
    ElementTree.parse(folder / "label_studio.xml")
    assert 'name="chosen"' in (folder / "mturk.html").read_text()
    for row in csv.DictReader((folder / "prolific.csv").open()):
        assert (tmp_path / "pictures" / row["pictures"]).is_file()
