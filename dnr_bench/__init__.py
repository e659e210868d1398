"""A benchmark harness for descriptions of what neurons in vision networks detect."""

from __future__ import annotations

from warnings import filterwarnings

from beartype.roar import BeartypeDecorHintPep585DeprecationWarning
from jaxtyping import install_import_hook

from dnr_bench import checker  # noqa: F401  (imported before the hook that uses it)

# OmegaConf's DictConfig inherits from typing.MutableMapping, which beartype warns of.
filterwarnings("ignore", category=BeartypeDecorHintPep585DeprecationWarning)
install_import_hook(["dnr_bench", "evaluators", "sweeps"], "dnr_bench.checker.check")

__version__ = "0.1.0"
