"""From words on the command line to a composed config: light, so that a run says at once that it starts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from dnr_bench.app.command_line import composition_error
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CONF

#: What settings raise that YAML or Python cannot hold: dates that are none, lists too deep, endless numbers.
UNCOMPOSED = (ValueError, TypeError, AttributeError, LookupError, RecursionError, YAMLError)


@dataclass(frozen=True)
class Paths:
    """Where results go, relative to the working directory."""

    store: str
    mlruns: str

    def __post_init__(self) -> None:
        for name in ("store", "mlruns"):
            given = getattr(self, name)
            if not given.strip() or "\0" in given:
                raise UsageError(f"paths.{name}={given!r} must be a folder, as mlruns/store")


class InstalledConfigs(SearchPathPlugin):
    """Lets installed packages add members to conf/: each names its own folder of configs as an entry point.

    In the package's pyproject.toml: [project.entry-points."dnr_bench.conf"] mine = "my_package.conf".
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls this before it composes."""
        for found in entry_points(group="dnr_bench.conf"):
            search_path.append(f"dnr_bench.conf {found.name}", f"pkg://{found.value}")


def register_installed_configs() -> None:
    """Let Hydra find the configs of installed packages; registering them again changes nothing."""
    Plugins.instance().register(InstalledConfigs)
    OmegaConf.register_new_resolver(
        "folder", _folder, replace=True
    )  # Hydra makes folders before we are asked


def _folder(path: object) -> str:
    """A folder of paths; what is none would be the root of the disk, or a folder called None."""
    if not isinstance(path, str):
        raise UsageError(f"paths.mlruns={path!r} must be a folder, as mlruns")
    return Paths(store=path, mlruns=path).mlruns


def load_config(*overrides: str, name: str = "config", config_dir: str | None = None) -> DictConfig:
    """The config that these overrides give.

    Args:
        overrides: as on the command line: "scorer=semantic", "blur=2".
        name: of a file in conf/: config for runs, sweep for studies.
        config_dir: a folder of further configs, as --config-dir on the command line.
    """
    register_installed_configs()
    words = [*overrides, *searched(config_dir)]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, overrides=words)
    except UNCOMPOSED as error:
        raise composition_error(error) from error


def searched(config_dir: str | None) -> list[str]:
    """The override that lets Hydra find configs in a further folder."""
    return [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]


def resolved(node: DictConfig) -> dict[str, object]:
    """A config or a part of it as plain values, interpolations resolved."""
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
