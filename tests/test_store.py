from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Work

KEYS = [{"n": n} for n in (1, 2, 1, 3)]


def test_equal_keys_are_computed_once_and_found_again(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def compute(indices: list[int]) -> list[dict[str, np.ndarray]]:
        asked.append(indices)
        return [{"square": np.asarray([KEYS[i]["n"] ** 2])} for i in indices]

    first = Store(tmp_path)
    values = first.fill("squares", KEYS, compute)
    assert [int(value["square"][0]) for value in values] == [1, 4, 1, 9]
    assert asked == [[0, 1, 3]]
    assert (first.counts["squares"].hits, first.counts["squares"].misses) == (0, 3)

    second = Store(tmp_path)
    again = second.fill("squares", KEYS[::-1], compute)
    assert [int(value["square"][0]) for value in again] == [9, 1, 4, 1]
    assert (second.counts["squares"].hits, second.counts["squares"].misses) == (3, 0)


def test_arrays_come_back_as_they_were_however_they_lie_in_memory(tmp_path: Path) -> None:
    turned = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)
    Store(tmp_path).fill("arrays", [{"n": 1}], lambda indices: [{"turned": turned}])
    (found,) = Store(tmp_path).fill("arrays", [{"n": 1}], lambda indices: [])
    assert np.array_equal(found["turned"], turned)


def test_what_was_finished_before_an_error_is_kept(tmp_path: Path) -> None:
    def breaks(indices: list[int]):
        yield "one"
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        Store(tmp_path).fill("words", KEYS, breaks)
    store = Store(tmp_path)
    assert store.fill("words", KEYS, lambda indices: ["other"] * len(indices))[0] == "one"
    assert store.counts["words"].hits == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_item_is_computed_again(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    Store(tmp_path).fill("words", [{"n": 1}], lambda _: ["right"])
    name = digest({"n": 1})
    path = tmp_path / "words" / name[:2] / name
    path.write_bytes(path.read_bytes()[:-3] + b'xy"' if damage is None else damage)
    store = Store(tmp_path)
    assert store.fill("words", [{"n": 1}], lambda _: ["new"]) == ["new"]
    assert store.counts["words"].misses == 1
    assert "damaged item" in caplog.text


def test_an_item_whose_kind_was_damaged_is_computed_again(tmp_path: Path) -> None:
    Store(tmp_path).fill("arrays", [{"n": 1}], lambda _: [{"rows": np.ones(3)}])
    (path,) = tmp_path.glob("arrays/*/*")
    content = path.read_bytes()
    assert content.startswith(b"arrays ")
    for place in range(len("arrays")):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        store = Store(tmp_path)
        (value,) = store.fill("arrays", [{"n": 1}], lambda _: [{"rows": np.full(3, 2.0)}])
        assert value["rows"].tolist() == [2, 2, 2]
        assert store.counts["arrays"].misses == 1


@pytest.mark.parametrize("other", ["words", "names"])
def test_an_item_that_was_copied_over_another_is_computed_again(tmp_path: Path, other: str) -> None:
    for stage, n in (("words", 1), (other, 2)):
        Store(tmp_path).fill(stage, [{"n": n}], lambda _, n=n: [f"word {n}"])
    one, two = (digest({"n": n}) for n in (1, 2))
    Path(tmp_path, "words", one[:2], one).write_bytes(Path(tmp_path, other, two[:2], two).read_bytes())
    assert Store(tmp_path).fill("words", [{"n": 1}], lambda _: ["anew"]) == ["anew"]


def test_paid_answers_of_earlier_releases_are_found(tmp_path: Path) -> None:
    name = digest({"n": 1})
    path = tmp_path / "answers" / name[:2] / name
    path.parent.mkdir(parents=True)
    path.write_bytes(hashlib.sha256(b'"paid"').hexdigest().encode() + b" json\n" + b'"paid"')
    assert Store(tmp_path).fill("answers", [{"n": 1}], lambda _: ["asked again"]) == ["paid"]
    path.write_bytes(path.read_bytes().replace(b"paid", b"pain"))
    assert Store(tmp_path).fill("answers", [{"n": 1}], lambda _: ["asked again"]) == ["asked again"]


def test_half_a_character_is_a_key_and_a_value_like_others(tmp_path: Path) -> None:
    half = "a \ud83d cat"
    for _ in range(2):
        assert Store(tmp_path).fill("words", [{"text": half}], lambda _: [half]) == [half]


def test_entries_grow_without_drawing_their_first_rows_again(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def rows(length: int):
        def make(_: object, items: list[tuple[int, int]]):
            asked.extend(items)
            return [np.arange(have, length) * 10 + index for index, have in items]

        return Store(tmp_path).extend(
            "rows",
            [{"i": 0}, {"i": 1}],
            "rows",
            length,
            Work("model", None, make),
            item=lambda index, have: (index, have),
            finish=lambda index, have, made: made,
        )

    rows(2)
    assert [value["rows"].tolist() for value in rows(4)] == [[0, 10, 20, 30], [1, 11, 21, 31]]
    assert asked == [(0, 0), (1, 0), (0, 2), (1, 2)]
    assert len(rows(3)[0]["rows"]) == 4
    assert len(asked) == 4


@dataclass
class Pass:
    """Blocks of rows of two arrays, the second one more than the first; notes which rows it made."""

    values: np.ndarray
    stop_at: int | None = None
    made: list[tuple[list[int], int]] = field(default_factory=list)

    def __call__(self, indices: list[int]) -> Work:
        def make(_: object, ranges: list[range]):
            for rows in ranges:
                if self.stop_at is not None and rows.start >= self.stop_at:
                    raise KeyboardInterrupt
                self.made.append((indices, rows.start))
                yield {str(n): self.values[rows.start : rows.stop] + i for n, i in enumerate(indices)}

        return Work("model", None, make)


#: Rows of a block, and of an array of three blocks and a bit.
STEP, ROWS = 512, 3 * 512 + 100


def values_of(width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, width)).astype(np.float32)


def test_arrays_are_mapped_from_files_and_a_broken_pass_goes_on(tmp_path: Path) -> None:
    values, keys = values_of(3), [{"layer": "a"}, {"layer": "b"}]
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).fill_arrays("acts", keys, ROWS, [3, 3], Pass(values, stop_at=2 * STEP))
    rest = Pass(values)
    a, b = Store(tmp_path).fill_arrays("acts", keys, ROWS, [3, 3], rest)
    assert rest.made == [([0, 1], 2 * STEP), ([0, 1], 3 * STEP)]
    assert isinstance(a, np.memmap)
    assert np.array_equal(a, values)
    assert np.array_equal(b, values + 1)
    assert [p.name for p in tmp_path.glob("acts_blocks/*/*")] == []
    assert not list(tmp_path.rglob("*.partial"))


def test_equal_arrays_are_computed_once(tmp_path: Path) -> None:
    store, work = Store(tmp_path), Pass(np.ones((10, 2), np.float32))
    a, b, again = store.fill_arrays("acts", [{"n": 1}, {"n": 2}, {"n": 1}], 10, [2] * 3, work)
    assert work.made == [([0, 1], 0)]
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)
    assert store.counts["acts"].misses == 2


def test_a_broken_pass_is_not_continued_with_the_rows_of_another(tmp_path: Path) -> None:
    values, a, b = values_of(2), {"layer": "a"}, {"layer": "b"}
    for keys, stop in (([a, b], 2 * STEP), ([a], STEP)):
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).fill_arrays("acts", keys, ROWS, [2] * len(keys), Pass(values, stop))
    arrays = Store(tmp_path).fill_arrays("acts", [b, a], ROWS, [2, 2], Pass(values))
    assert [np.array_equal(array, values + i) for i, array in enumerate(arrays)] == [True, True]


def test_a_damaged_block_is_computed_again(tmp_path: Path) -> None:
    values = values_of(2)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).fill_arrays("acts", [{}], ROWS, [2], Pass(values, stop_at=2 * STEP))
    path = next(tmp_path.glob("acts_blocks/*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    rest = Pass(values)
    assert np.array_equal(Store(tmp_path).fill_arrays("acts", [{}], ROWS, [2], rest)[0], values)
    assert len(rest.made) == 3  # two that were missing, and the damaged one


def test_an_error_of_the_images_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    def unreadable(_: object, ranges: list[range]):
        raise FileNotFoundError("image.jpg")
        yield

    with pytest.raises(FileNotFoundError, match=r"image\.jpg"):
        Store(tmp_path).fill_arrays("acts", [{}], 10, [2], lambda _: Work("model", None, unreadable))


def test_only_the_missing_arrays_of_a_pass_are_computed(tmp_path: Path) -> None:
    values = np.ones((10, 2), np.float32)
    Store(tmp_path).fill_arrays("acts", [{"layer": "a"}], 10, [2], Pass(values))
    store, work = Store(tmp_path), Pass(values)
    store.fill_arrays("acts", [{"layer": "a"}, {"layer": "b"}], 10, [2, 2], work)
    assert work.made == [([1], 0)]
    assert (store.counts["acts"].hits, store.counts["acts"].misses) == (1, 1)


def test_a_damaged_array_is_computed_again(tmp_path: Path) -> None:
    values = np.ones((10, 2), np.float32)
    Store(tmp_path).fill_arrays("acts", [{}], 10, [2], Pass(values))
    (path,) = tmp_path.glob("acts/*/*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    store = Store(tmp_path)
    assert np.array_equal(store.fill_arrays("acts", [{}], 10, [2], Pass(values))[0], values)
    assert store.counts["acts"].misses == 1


@pytest.mark.parametrize("locks", [True, False])
def test_workers_share_the_blocks_of_a_pass(tmp_path: Path, locks: bool) -> None:
    values, work = values_of(2), Pass(values_of(2))
    results: list[np.ndarray] = []

    def run() -> None:
        results.extend(Store(tmp_path, locks=locks).fill_arrays("acts", [{}], ROWS, [2], work))

    workers = [threading.Thread(target=run) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [np.array_equal(found, values) for found in results] == [True] * 3
    if locks:
        assert sorted(start for _, start in work.made) == [0, STEP, 2 * STEP, 3 * STEP]


KILLED = """
import sys, time
from pathlib import Path
from dnr_bench.infra.store import Store

def compute(indices):
    for i in indices:
        time.sleep(0.05)
        yield i * 10

Store(Path(sys.argv[1])).fill("slow", [{"i": i} for i in range(200)], compute, batch=4)
"""


def test_finished_items_survive_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("slow/*/*"))) < 10:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = Store(tmp_path)
    values = store.fill("slow", [{"i": i} for i in range(200)], lambda indices: [i * 10 for i in indices])
    assert values == [i * 10 for i in range(200)]
    assert store.counts["slow"].hits >= 9
    assert store.counts["slow"].misses + store.counts["slow"].hits == 200


def test_few_open_files_are_enough(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        keys = [{"i": i} for i in range(600)]
        assert Store(tmp_path).fill("work", keys, lambda indices: indices, batch=600) == list(range(600))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_two_workers_share_the_work(tmp_path: Path) -> None:
    computed: list[int] = []
    by: set[int] = set()
    both = threading.Barrier(2, timeout=60)  # each has a batch before either computes it

    def compute(indices: list[int]):
        if threading.get_ident() not in by:
            by.add(threading.get_ident())
            both.wait()
        for i in indices:
            computed.append(i)
            yield i

    keys = [{"i": i} for i in range(60)]
    results: list[list[int]] = []
    workers = [
        threading.Thread(target=lambda: results.append(Store(tmp_path).fill("work", keys, compute, batch=5)))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [list(range(60))] * 2
    assert sorted(computed) == list(range(60))
    assert len(by) == 2


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match=r"cannot use the store at .*paths\.store"):
        Store(blocked).fill("words", [{"n": 1}], lambda _: ["x"])
