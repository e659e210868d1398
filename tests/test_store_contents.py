"""What `dnr-bench store` shows and removes, and what is kept of drawn images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from dnr_bench.app.commands.store import spoken_size
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.store import Store
from dnr_bench.infra.store_contents import entries, oldest, references, unused, write_references

Command = Callable[[Sequence[str]], CompletedProcess[str]]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """mlruns with two runs that share an item, an item of no run, and a paid answer."""
    mlruns = tmp_path / "mlruns"
    for number, words in enumerate((["a", "b"], ["b", "c"])):
        store = Store(mlruns / "store")
        store.fill("captions", [{"of": word} for word in words], lambda which: ["x" * 1000 for _ in which])
        folder = mlruns / "runs" / str(number)
        folder.mkdir(parents=True)
        write_references(store.touched, folder)
        os.utime(folder, (1000 * (number + 1),) * 2)
    Store(mlruns / "store").write("captions", {"of": "nobody"}, "y" * 1000)
    Store(mlruns / "store").write("answers", {"of": "nobody"}, "paid")
    for path in (mlruns / "store").rglob("*"):
        os.utime(path, (500, 500))
    return mlruns


def test_sizes_by_stage_and_run_are_shown(filled: Path, command_line: Command) -> None:
    shown = command_line(["store"])
    assert shown.returncode == 0
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
    assert rows["captions"].split()[1] == "4"
    assert "4.3 KB" in rows["captions"]
    assert rows["0"].split()[1:] == ["2.1", "KB", "1.1", "KB"]


def test_what_no_run_refers_to_is_removed_but_for_paid_answers(filled: Path, command_line: Command) -> None:
    told = command_line(["store", "--prune", "unused", "--dry"])
    assert "1 items (1.1 KB) would be removed" in told.stdout
    assert len(entries(filled / "store")) == 5
    assert command_line(["store", "--prune", "unused"]).returncode == 0
    left = {(entry.stage, entry.name) for entry in entries(filled / "store")}
    assert {stage for stage, _ in left} == {"captions", "answers"}
    used = {item for _, items in references(filled) for item in items}
    assert used <= left
    assert len(left) == 4
    fresh = Store(filled / "store")
    fresh.write("captions", {"of": "a run that goes on"}, "z")
    assert "0 items" in command_line(["store", "--prune", "unused"]).stdout
    assert "1 items" in command_line(["store", "--prune", "unused", "--hours", "0"]).stdout


def test_what_was_longest_not_used_is_removed_first(filled: Path, command_line: Command) -> None:
    assert command_line(["store", "--prune", "oldest", "--to", "2.5KB"]).returncode == 0
    store = Store(filled / "store")
    held = [store.read("captions", {"of": word}) is not None for word in ("nobody", "a", "b", "c")]
    assert held == [False, False, True, True]
    assert store.read("answers", {"of": "nobody"}) == "paid"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prune", "oldest"], "--prune oldest and --to SIZE belong together"),
        (["--to", "1GB"], "--prune oldest and --to SIZE belong together"),
        (["--prune", "oldest", "--to", "much"], "must be a size as 500MB or 20GB"),
        (["--prune", "everything"], "invalid choice"),
        (["--hours=-1"], "must be at least 0"),
        (["--store", "nowhere"], "there is no store at nowhere"),
    ],
)
def test_mistakes_are_said(words: list[str], said: str, filled: Path, command_line: Command) -> None:
    done = command_line(["store", *words])
    assert done.returncode == 2
    assert said in done.stderr


def test_damaged_references_remove_nothing(filled: Path, command_line: Command) -> None:
    (filled / "runs" / "0" / "stored.txt.gz").write_bytes(b"nonsense")
    done = command_line(["store", "--prune", "unused"])
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert len(entries(filled / "store")) == 5


def test_half_written_items_count_and_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("captions", {"of": "a"}, "x")
    (entry,) = entries(tmp_path)
    name = entry.name[:2] + "a" * 62
    entry.files[0].with_name(f"{name}.99.partial").write_bytes(b"12345")
    found = {e.name: e.size for e in entries(tmp_path)}
    assert found[name] == 5
    assert oldest(entries(tmp_path), {}, 0) == [e for e in entries(tmp_path) if e.name == entry.name]
    assert len(unused(entries(tmp_path), {("captions", entry.name)}, time.time() + 9)) == 1
    assert oldest(entries(tmp_path), {}, 10**9) == []


def test_files_of_others_are_none_of_our_business(filled: Path, command_line: Command) -> None:
    for path in (
        filled / "store" / "src" / "app" / "thesis.tex",
        filled / "store" / "captions" / "ab" / "ab.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        os.utime(path, (1, 1))
    assert command_line(["store", "--prune", "unused", "--hours", "0"]).returncode == 0
    assert command_line(["store", "--prune", "oldest", "--to", "0B"]).returncode == 0
    assert (filled / "store" / "src" / "app" / "thesis.tex").exists()
    assert (filled / "store" / "captions" / "ab" / "ab.txt").exists()


def test_nothing_is_unused_where_no_run_has_told_what_it_uses(filled: Path, command_line: Command) -> None:
    done = command_line(["store", "--prune", "unused", "--mlruns", "elsewhere", "--store", "mlruns/store"])
    assert done.returncode == 2
    assert "has noted what it uses" in done.stderr
    (filled / "runs" / "2").mkdir()
    (filled / "runs" / "2" / "result.json").write_text("{}")
    assert (
        "1 runs have not noted what they use" in command_line(["store", "--prune", "unused", "--dry"]).stderr
    )


def test_sizes_are_spoken() -> None:
    assert [spoken_size(n) for n in (0, 999, 1500, 2 * 10**9)] == ["0 B", "999 B", "1.5 KB", "2.0 GB"]


@pytest.mark.parametrize("kept", ["all", "thumbnails", "none"])
@pytest.mark.slow
def test_what_is_not_kept_is_drawn_again_and_labels_are_the_same(
    kept: str, small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    words = ["neurons.units=[0,9]", "evaluator=[]", "captioner=dataset", f"store.images={kept}"]
    config = small_run(*words, store="own")
    session = config.session()
    result = run(config, session)
    usual = run(small_run(*words[:3]))
    assert [n.labels for n in result.neurons] == [n.labels for n in usual.neurons]
    stages = {entry.stage for entry in entries(tmp_path / "own")}
    assert ("pixels" in stages) == (kept == "all")
    assert ("thumbnails" in stages) == (kept == "thumbnails")
    text = result.neurons[0].candidates[0].text
    again, reference = session.drawn(text).pixels, small_run(*words[:3]).session().drawn(text).pixels
    assert np.array_equal(again, reference)
