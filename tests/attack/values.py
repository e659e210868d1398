"""Hostile values for every setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from dnr_bench.app.composition import load_config
from tests.attack.children import Ended
from tests.attack.verdicts import Tally, complaint

#: A run of a second, with each hostile value beside it.
TINY = (
    "generator=renderer",
    "captioner=dataset",
    "neurons.layers=[concepts]",
    "neurons.units=[0,13]",
    "probe.n_images=24",
    "images_per_concept=1",
    "evaluator=[planted]",
    "report=false",
)
#: Members whose values are tried besides those of the defaults.
MEMBERS = (
    (),
    ("scorer=semantic",),
    ("scorer=combined",),
    ("scorer=image_products",),
    ("refine=iterative",),
    ("method=clip_dissect",),
    ("method=network_dissection",),
    ("method=precomputed",),
    ("corruption=noise",),
    ("evaluator=[concept_groups,diversity,neuron_rank,cost]",),
    ("evaluator=[held_out]",),
    ("captioner=clip_concepts",),
    ("captioner=blip",),
    ("probe=folder",),
    ("target=custom",),
    ("target=none",),
    ("generator=diffusion",),
    ("generator=retrieval",),
    ("summarizer=openai",),
    ("evaluator=[pruning]",),
    ("evaluator=[milannotations]",),
    ("probe=cifar10",),
    ("proposals=label_file",),
    ("target=timm",),
    ("summarizer=captions",),
)
#: For a number: what no range may allow.
NO_NUMBERS = ("nan", "inf", "true", "abc", "[]", "-1e300")
ANYTHING = (
    "null",
    "-1",
    "0",
    "1e30",
    "1000000000000000000000",
    "[[[[]]]]",
    "{_target_:os.system}",
    "../../..",
    "/dev/zero",
    "'\\x00'",
    "💥",
    "${paths}",
    "${nothing}",
    "'${oc.env:PATH}'",
    "a" * 3000,
    "2024-99-99",
    "9" * 5000,
    "???",
)
#: Values whose size alone is the attack, by key.
FLOODS = (
    "prompt='{concept:999999999}'",
    "probe.n_images=1000000000",
    "images_per_concept=1000000000",
    "n_candidates=1000000000",
    "exemplars.n=1000000000",
    "neurons.units=0-999999999",
    "neurons.sample=99999999999",
    "prompt='{concept.__class__}'",
    "prompt='{0}'",
    "prompt='{concept!r}'",
    f"experiment_name={'x' * 600}",
    "experiment_name='a\nb'",
    "experiment_name=''",
    "paths.mlruns=''",
    "paths.mlruns=null",
    "paths.store=''",
    "paths=null",
    "neurons=null",
    "target=null",
    "probe=null",
    "evaluator=1",
    "store=null",
    "tracking=null",
    "method=null",
    "scorer=[a,b]",
    "exemplars=[]",
    "neurons.units=[0,true]",
    "neurons.units=[-1]",
    "neurons.units=[0.5]",
    "neurons.layers=concepts",
    "neurons.layers=[]",
    "neurons.layers=[[]]",
    "user_concepts=[1]",
    "user_concepts=[[]]",
    "user_concepts=x",
    "user_concepts=[null]",
    "user_concepts=['']",
    "device=tpu",
    "device=cuda:99",
    "dtype=int8",
    "blur_region=sky",
    "tracking.uri=htp://a",
    "tracking.uri=5",
    "hydra.run.dir=/dev/null/x",
    "hydra=null",
    "scorer._target_=os.system",
    "scorer._target_=sympy.sympify",
    "scorer._target_=nonsense",
    "+new=1",
    "~scorer",
    "++x=1",
    "a",
    "=",
    "==",
    "a=",
    "=a",
    "a==b",
    "-x",
    "--help=1",
    "scorer=../../x",
    "scorer=/etc/passwd",
    "+experiment=../x",
    "'",
    '"',
    "[",
    "{",
    "\\",
    "%",
    "\x1b[31m=1",
)


@dataclass(frozen=True)
class Try:
    """A command line, and whether only a refusal (exit code 2) will do."""

    words: tuple[str, ...]
    refused: bool = False


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The values of a config by dotted keys; those of lists as a whole."""
    for key in node:
        name = f"{prefix}{key}"
        value = None if OmegaConf.is_missing(node, key) else OmegaConf.to_container(node, resolve=False)[key]
        child = (
            None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        )
        if isinstance(child, DictConfig):
            yield from leaves(child, f"{name}.")
        elif str(key) not in ("_target_", "debug") and not str(value).startswith("${"):
            yield name, child if not isinstance(child, ListConfig) else []


def tries() -> Iterator[Try]:
    """Every hostile value for every key of the defaults, and for those of other members' own keys."""
    seen: set[str] = set()
    for members in MEMBERS:
        config = load_config(*TINY, *members)
        for key, value in leaves(config):
            if key in seen:
                continue
            seen.add(key)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number:
                yield from (Try((*members, f"{key}={bad}"), refused=True) for bad in NO_NUMBERS)
            yield from (Try((*members, f"{key}={bad}")) for bad in _rest(key))
    yield from (Try((word,)) for word in FLOODS)


def _rest(key: str) -> tuple[str, ...]:
    """A few of them for each key: the checks are the same ones."""
    return ANYTHING[hash_of(key) % 6 :: 6]


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(text))


def words_of(attempt: Try, store: Path) -> list[str]:
    """The command line of a try, which has the last word."""
    return [*TINY, f"paths.store={store}", *attempt.words]


def judge(attempt: Try, ended: Ended, folder: Path, tally: Tally) -> None:
    """Refused, failed or done, in an orderly way, and nothing written elsewhere."""
    wrong = complaint(ended, (0, 1, 2))
    if wrong is None and attempt.refused and ended.code != 2:
        wrong = f"accepted silently: exit code {ended.code}"
    if wrong is None and any((folder / name).exists() for name in ("None", "nan", "runs")):
        wrong = "it left a folder that nobody asked for"
    tally.note("hostile values", " ".join(attempt.words)[:300], wrong)
