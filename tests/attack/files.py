"""Hostile files: images, tables, checkpoints, results and baselines of others."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

#: A file that hostile content would make, if it were run.
CANARY = "owned"


@dataclass(frozen=True)
class FileTry:
    """Makes files in a folder and names the command that reads them."""

    name: str
    make: Callable[[Path], list[str]]


class _Owned:
    """What pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def all_tries(result: Path) -> Iterator[FileTry]:
    """Every hostile file; `result`: the folder of a finished run."""
    yield from _images()
    yield from _tables()
    yield from _checkpoints()
    yield from _results(result)
    yield from _baselines(result)


def _folder_of(content: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        photos = folder / "photos"
        photos.mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((40, 40), 50 + number).convert("RGB").save(photos / f"ok{number}.png")
        content(photos)
        return ["probe=folder", "probe.path=photos", "probe.n_images=null", "captioner=blip", "evaluator=[]"]

    return make


def _written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def _png(width: int, height: int) -> bytes:
    """The head of a picture of that size, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def _npy(shape: str) -> bytes:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _images() -> Iterator[FileTry]:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(buffer, "JPEG")
    whole, rng = buffer.getvalue(), random.Random(0)
    contents: dict[str, bytes] = {
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "half.jpg": whole[: len(whole) // 2],
        "huge.png": _png(2**31 - 1, 2**31 - 1),
        "wide.png": _png(10**6, 10),
        "none.png": _png(0, 0),
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pickle.npy.png": b"\x93NUMPY" + pickle.dumps(_Owned()),
        "shape.png": _npy("(99999999999, 9, 9)"),
        "code.png": _npy("__import__('os').system('touch owned')"),
        "deep.png": _npy("(" * 5000),
        "name\nline.jpg": whole,
        "<script>alert(1)<b>.jpg": whole,
        "💥.jpg": whole,
        "-rf.jpg": whole,
        "a'b\"c.jpg": whole,
        "\x1b[31mred.jpg": whole,
    }
    for number in range(12):  # flipped bytes
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 40)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        contents[f"damaged{number}.jpg"] = bytes(damaged)
    for name, content in contents.items():
        yield FileTry(f"image {name!r}", _folder_of(_written(name, content)))
    links = {"zero": "/dev/zero", "random": "/dev/urandom", "tty": "/dev/tty", "nowhere": "/nowhere/x"}
    for name, to in links.items():
        yield FileTry(
            f"link to {to}", _folder_of(lambda folder, n=name, t=to: (folder / f"{n}.jpg").symlink_to(t))
        )
    yield FileTry("a pipe", _folder_of(lambda folder: os.mkfifo(folder / "x.jpg")))
    yield FileTry("a folder x.jpg", _folder_of(lambda folder: (folder / "x.jpg").mkdir()))
    yield FileTry("a link back", _folder_of(lambda folder: (folder / "back").symlink_to(folder)))
    yield FileTry(
        "a link to itself", _folder_of(lambda folder: (folder / "me.jpg").symlink_to(folder / "me.jpg"))
    )


TABLES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 9,
    "nul": b"layer,unit,label\nconcepts,0,\x00\n",
    "quote": b'layer,unit,label\n"concepts,0,red\n',
    "columns": b"a,b\n1,2\n",
    "many": b"layer,unit,label" + b",x" * 100_000 + b"\n",
    "utf16": "layer,unit,label\n".encode("utf-16"),
    "latin": "layer,unit,label\nconcepts,0,caf\xe9\n".encode("latin-1"),
    "unit": b"layer,unit,label\nconcepts,99999,red\n",
    "digits": b"layer,unit,label\nconcepts," + b"9" * 5000 + b",red\n",
    "arabic": "layer,unit,label\nconcepts,٣,red\n".encode(),
    "negative": b"layer,unit,label\nconcepts,-1,red\n",
    "long": b"layer,unit,label\nconcepts,0," + b"x" * 200_000 + b"\n",
    "escape": b"layer,unit,label\nconcepts,0,\x1b[31mred\x1b[0m\n",
    "html": b"layer,unit,label\nconcepts,0,<script>alert(1)</script>\n",
    "formula": b"layer,unit,label\nconcepts,0,=cmd()\n",
    "markup": b"layer,unit,label\nconcepts,0,[red]x[/red] [/]\n",
    "surrogate": b"layer,unit,label\nconcepts,0,\xed\xa0\xbd\n",
    "more": b"layer,unit,label\nconcepts,0,red,blue\n",
    "fewer": b"layer,unit,label\nconcepts,0\n",
    "twice": b"layer,unit,label,label\nconcepts,0,red,blue\n",
    "cr": b"layer,unit,label\rconcepts,0,red\r",
    "unknown": b"layer,unit,label\nnowhere,0,red\n",
    "blank": b"layer,unit,label\nconcepts,0,   \n",
}
YAML: dict[str, bytes] = {
    "deep": b"[" * 20_000,
    "python": b"!!python/object/apply:os.system ['touch owned']",
    "date": b"concepts:0: [2024-99-99]",
    "aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
    b"c: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c]",
    "scalar": b"5",
    "list": b"[a, b]",
    "name": b"nowhere: [red]",
    "unit": b"concepts:99999: [red]",
    "digits": b"concepts:" + b"9" * 5000 + b": [red]",
    "empty": b"",
    "null": b"concepts:0: [null]",
    "number": b"concepts:0: [5]",
    "tabs": b"\tconcepts:0: [red]",
    "twice": b"a: 1\na: 2",
    "nul": b"a\x00b: [c]",
    "many": b"concepts:0: [" + b",".join(b"c%d" % i for i in range(20_000)) + b"]",
    "tag": b"!foo bar",
    "loop": b"&a [*a]",
    "merge": b"<<: 5",
}


def _tables() -> Iterator[FileTry]:
    for name, content in TABLES.items():
        for group in ("method=precomputed", "proposals=label_file", "user_concepts=table.csv"):
            key = {"m": "method.path=table.csv", "p": "proposals.path=table.csv"}.get(group[0], "n_labels=1")

            def make(
                folder: Path, content: bytes = content, words: tuple[str, ...] = (group, key)
            ) -> list[str]:
                text = content.replace(b"label", b"concept") if words[0].startswith("user") else content
                (folder / "table.csv").write_bytes(text)
                return list(words)

            yield FileTry(f"table {name} of {group}", make)
    for name, content in YAML.items():

        def concepts(folder: Path, content: bytes = content) -> list[str]:
            (folder / "concepts.yaml").write_bytes(content)
            return ["user_concepts=concepts.yaml"]

        yield FileTry(f"YAML {name}", concepts)

        def config(folder: Path, content: bytes = content) -> list[str]:
            (folder / "conf" / "scorer").mkdir(parents=True)
            (folder / "conf" / "scorer" / "mine.yaml").write_bytes(content)
            return ["--config-dir", "conf", "scorer=mine"]

        yield FileTry(f"config {name}", config)
    for name in ("/dev/zero", "/dev/urandom", "/proc/self/mem", "/", "nowhere"):
        yield FileTry(
            f"concepts={name}", lambda folder, n=name: ["captioner=clip_concepts", f"captioner.concepts={n}"]
        )

    def pipe(folder: Path) -> list[str]:
        os.mkfifo(folder / "pipe")
        return ["captioner=clip_concepts", "captioner.concepts=pipe"]

    yield FileTry("concepts from a pipe", pipe)


def _checkpoints() -> Iterator[FileTry]:
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(num_classes=3).state_dict()
    itself: dict[str, Any] = {}
    itself["state_dict"] = itself
    contents: dict[str, Any] = {
        "itself": itself,
        "code": {"w": _Owned()},
        "int8": {k: v.to(torch.int8) for k, v in state.items()},
        "complex": {k: v.to(torch.complex64) for k, v in state.items()},
        "nan": {k: v * float("nan") for k, v in state.items()},
        "inf": {k: v + float("inf") for k, v in state.items()},
        "list": [1, 2],
        "number": 5,
        "empty": {},
        "names": {5: torch.ones(1)},
        "shapes": {k: torch.ones(1) for k in state},
        "sparse": {k: v.to_sparse() if v.ndim else v for k, v in state.items()},
        "deep": {"state_dict": {"model": {"net": {"weights": {"state_dict": {"model": {}}}}}}},
        "meta": {k: v.to("meta") for k, v in state.items()},
    }
    raw: dict[str, bytes] = {
        "empty file": b"",
        "text": b"weights",
        "pickle": pickle.dumps(_Owned()),
        "zip": b"PK\x03\x04" + b"\0" * 99,
        "head": struct.pack("<Q", 2**60) + b"{}",
        "json": struct.pack("<Q", 2) + b"{}",
        "nothing": struct.pack("<Q", 0),
    }
    words = [
        "target=custom",
        "target.factory=net:build",
        "target.resize=64",
        "target.crop=64",
        "neurons.layers=[classifier.3]",
    ]
    code = "import torchvision\ndef build():\n    return torchvision.models.squeezenet1_1(num_classes=3)\n"

    def saved(name: str, save: Callable[[Path], object]) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            (folder / "net.py").write_text(code)
            save(folder / name)
            return [
                *words,
                "neurons.units=[0]",
                f"target.checkpoint={name}",
                "evaluator=[]",
                "proposals=none",
            ]

        return make

    for name, content in contents.items():
        yield FileTry(f"checkpoint {name}", saved("w.pt", lambda path, c=content: torch.save(c, path)))
    for name, content in raw.items():
        for suffix in ("pt", "safetensors"):
            yield FileTry(
                f"checkpoint {name}.{suffix}",
                saved(f"w.{suffix}", lambda path, c=content: path.write_bytes(c)),
            )
    yield FileTry("checkpoint that is a pipe", saved("w.pt", os.mkfifo))
    yield FileTry("checkpoint that never ends", saved("w.pt", lambda path: path.symlink_to("/dev/zero")))


HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    float("nan"),
    "",
    "<script>alert(1)</script>",
    "\x1b[31m",
    [],
    {},
    [[]],
    {"_target_": "os.system"},
    "a" * 10_000,
    ["x"],
    1.5,
    "../../x",
    "[/red]",
    "{{ 7 * 7 }}",
)


def mutated(content: Any, rng: random.Random) -> Any:
    """A JSON value with one to three of its parts replaced, removed or doubled."""
    changed = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        node = changed
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = rng.choice(keys)
            if not isinstance(node[key], dict | list) or rng.random() < 0.25:
                if rng.random() < 0.2:
                    del node[key]
                else:
                    node[key] = copy.deepcopy(rng.choice(HOSTILE))
                break
            node = node[key]
    return changed


def _results(run: Path) -> Iterator[FileTry]:
    known = {name: json.loads((run / name).read_text()) for name in ("result.json", "outcome.json")}
    commands = (["report", "run"], ["compare", "run", str(run)], ["gate", "run=run"], ["log", "run"])
    for number in range(120):
        rng = random.Random(number)
        name = "outcome.json" if number % 8 == 7 else "result.json"

        def make(folder: Path, name: str = name, rng: random.Random = rng, number: int = number) -> list[str]:
            (folder / "run").mkdir()
            for other, content in known.items():
                (folder / "run" / other).write_text(
                    json.dumps(mutated(content, rng) if other == name else content)
                )
            return commands[number % len(commands)]

        yield FileTry(f"{name} mutated {number}", make)
    raw: tuple[bytes, ...] = (
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"schema": 4}',
        b"\xff\xfe",
        b"9" * 5000,
        b'{"schema": "3"}',
    )
    for number, content in enumerate(raw):
        for words in commands:

            def plain(folder: Path, content: bytes = content, words: list[str] = words) -> list[str]:
                (folder / "run").mkdir()
                (folder / "run" / "result.json").write_bytes(content)
                return words

            yield FileTry(f"result.json raw {number} {words[0]}", plain)
    for target in ("os.system", "sympy.sympify", "distutils.spawn.spawn", "subprocess.run", "builtins.eval"):

        def named(folder: Path, target: str = target) -> list[str]:
            content = copy.deepcopy(known["result.json"])
            part = {
                "_target_": target,
                "command": f"touch {CANARY}",
                "cmd": ["touch", CANARY],
                "args": ["touch", CANARY],
            }
            content["config"] |= dict.fromkeys(
                ("probe", "target", "store", "scorer", "encoder", "generator"), part
            )
            (folder / "run").mkdir()
            (folder / "run" / "result.json").write_text(json.dumps(content))
            return ["report", "run"]

        yield FileTry(f"result.json names {target}", named)
    for number, content in enumerate(
        (b"", b"{}", os.urandom(99), struct.pack("<Q", 2**62), struct.pack("<Q", 2) + b"{}")
    ):

        def pictures(folder: Path, content: bytes = content) -> list[str]:
            (folder / "run").mkdir()
            (folder / "run" / "result.json").write_text(json.dumps(known["result.json"]))
            (folder / "run" / "pictures.zip").write_bytes(content)
            return ["report", "run"]

        yield FileTry(f"pictures {number}", pictures)


def _baselines(run: Path) -> Iterator[FileTry]:
    import yaml

    from dnr_bench.infra.shipped import CONF

    known = yaml.safe_load((CONF / "baselines" / "shapes.yaml").read_text())
    for number in range(40):
        rng = random.Random(number)

        def make(folder: Path, rng: random.Random = rng) -> list[str]:
            (folder / "mine.yaml").write_text(yaml.safe_dump(mutated(known, rng)))
            return ["gate", f"run={run}", "baseline=mine.yaml"]

        yield FileTry(f"baseline mutated {number}", make)
    for name, content in YAML.items():

        def raw(folder: Path, content: bytes = content) -> list[str]:
            (folder / "mine.yaml").write_bytes(content)
            return ["gate", f"run={run}", "baseline=mine.yaml"]

        yield FileTry(f"baseline {name}", raw)
