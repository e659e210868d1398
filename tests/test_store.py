from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.store import Store

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
    asked: list[tuple[list[int], list[int]]] = []

    def rows(length: int):
        def compute(indices: list[int], have: list[int]):
            asked.append((indices, have))
            return [{"rows": np.arange(n, length) * 10 + i} for i, n in zip(indices, have, strict=True)]

        return Store(tmp_path).extend("rows", [{"i": 0}, {"i": 1}], "rows", length, compute)

    rows(2)
    assert [value["rows"].tolist() for value in rows(4)] == [[0, 10, 20, 30], [1, 11, 21, 31]]
    assert asked == [([0, 1], [0, 0]), ([0, 1], [2, 2])]
    assert len(rows(3)[0]["rows"]) == 4
    assert len(asked) == 2


def _blocks(values: np.ndarray, step: int, stop_at: int | None = None):
    def compute(indices: list[int], start: int):
        for first in range(start, len(values), step):
            if stop_at is not None and first >= stop_at:
                raise KeyboardInterrupt
            yield [values[first : first + step] + i for i in indices]

    return compute


def test_arrays_are_mapped_from_files_and_a_broken_pass_goes_on(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    keys = [{"layer": "a"}, {"layer": "b"}]
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).fill_arrays("acts", keys, 100, [3, 3], _blocks(values, 10, stop_at=70), shard=20)
    starts: list[int] = []

    def resumed(indices: list[int], start: int):
        starts.append(start)
        return _blocks(values, 10)(indices, start)

    store = Store(tmp_path)
    a, b = store.fill_arrays("acts", keys, 100, [3, 3], resumed, shard=20)
    assert starts == [60]
    assert isinstance(a, np.memmap)
    assert np.array_equal(a, values)
    assert np.array_equal(b, values + 1)


def test_equal_arrays_are_computed_once(tmp_path: Path) -> None:
    values = np.ones((10, 2), np.float32)
    store, asked = Store(tmp_path), []

    def compute(indices: list[int], start: int):
        asked.append(indices)
        return _blocks(values, 5)(indices, start)

    a, b, again = store.fill_arrays("acts", [{"n": 1}, {"n": 2}, {"n": 1}], 10, [2] * 3, compute)
    assert asked == [[0, 1]]
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)
    assert store.counts["acts"].misses == 2


def test_a_broken_pass_is_not_continued_in_the_files_of_another(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32) + 5
    a, b = {"layer": "a"}, {"layer": "b"}
    for keys, stop in (([a, b], 70), ([a], 30)):
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).fill_arrays(
                "acts", keys, 100, [2] * len(keys), _blocks(values, 10, stop_at=stop), shard=10
            )
    arrays = Store(tmp_path).fill_arrays("acts", [a, b], 100, [2, 2], _blocks(values, 10), shard=10)
    assert [np.array_equal(array, values + i) for i, array in enumerate(arrays)] == [True, True]


def test_a_pass_that_starts_anew_forgets_how_far_an_earlier_one_came(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32) + 5
    keys = [{"layer": "a"}, {"layer": "b"}]

    def interrupted(stop: int) -> None:
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).fill_arrays("acts", keys, 100, [2, 2], _blocks(values, 10, stop), shard=20)

    interrupted(70)
    next(tmp_path.glob("acts/*/*.partial")).unlink()
    interrupted(10)
    arrays = Store(tmp_path).fill_arrays("acts", keys, 100, [2, 2], _blocks(values, 10), shard=20)
    assert [np.array_equal(array, values + i) for i, array in enumerate(arrays)] == [True, True]
    assert not list(tmp_path.glob("acts/*/*.partial"))


def test_an_error_of_the_images_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    def unreadable(indices: list[int], start: int):
        raise FileNotFoundError("image.jpg")
        yield

    with pytest.raises(FileNotFoundError, match=r"image\.jpg"):
        Store(tmp_path).fill_arrays("acts", [{}], 10, [2], unreadable)


def test_only_the_missing_arrays_of_a_pass_are_computed(tmp_path: Path) -> None:
    values = np.ones((10, 2), np.float32)
    Store(tmp_path).fill_arrays("acts", [{"layer": "a"}], 10, [2], _blocks(values, 5))
    store, asked = Store(tmp_path), []

    def compute(indices: list[int], start: int):
        asked.append(indices)
        return _blocks(values, 5)(indices, start)

    store.fill_arrays("acts", [{"layer": "a"}, {"layer": "b"}], 10, [2, 2], compute)
    assert asked == [[1]]
    assert (store.counts["acts"].hits, store.counts["acts"].misses) == (1, 1)


def test_a_damaged_array_is_computed_again(tmp_path: Path) -> None:
    values = np.ones((10, 2), np.float32)
    Store(tmp_path).fill_arrays("acts", [{}], 10, [2], _blocks(values, 5))
    (path,) = tmp_path.glob("acts/*/*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    store = Store(tmp_path)
    assert np.array_equal(store.fill_arrays("acts", [{}], 10, [2], _blocks(values, 5))[0], values)
    assert store.counts["acts"].misses == 1


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
