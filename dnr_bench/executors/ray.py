"""Work on the machines of a Ray cluster, or on this one as Ray sees it: actors that hold a model each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

from dnr_bench.data.images import ProbeSet
from dnr_bench.executors.sending import Parcel, packed
from dnr_bench.infra.errors import DnrError, RunError, UsageError
from dnr_bench.infra.items import ItemFolder, Value
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.work import Batch, Work

#: Batches that wait at an actor while it works on another one.
_AHEAD = 2
#: So often a batch is handed out that ends the actors which work on it.
_TRIES = 3
#: Seconds that a first actor may take to start, and seconds between two looks at how things go.
_PATIENCE, _LOOK = 300.0, 2.0
#: So many probing sets actors keep.
_SETS = 4
#: What an actor asks of a cluster unless it is told otherwise: stages take turns.
_SHARE = 0.2


@dataclass(frozen=True)
class ActorSettings:
    """actors: how many hold a model of this role, at most. num_cpus, num_gpus: what each one asks Ray for.

    None: what the executor says for all roles.
    """

    actors: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None

    def __post_init__(self) -> None:
        check_range(1, 100_000, **_given(actors=self.actors))
        check_range(0, 100_000, **_given(num_cpus=self.num_cpus, num_gpus=self.num_gpus))


class RayExecutor:
    """Hands batches to actors of Ray; an actor that dies is replaced, and what it worked on is done again.

    Actors write what they make into the store where they see its folder, else this process does. Those of a
    model are kept for the jobs of a multirun.

    Args:
        address: of a cluster; None: the one that this machine belongs to, else one of this machine alone.
        actors: at most how many hold one model; None: one per GPU of the cluster, else one per core.
        num_cpus, num_gpus: what each asks Ray for; None: a fifth of a GPU where there are GPUs, of a core
            otherwise, since stages take turns.
        threads: of PyTorch in each actor; None: the cores that there are for it.
        roles: other numbers for some roles: target, captioner, generator, encoder, matcher.

    Raises:
        UsageError: Ray is not installed, or a setting is out of range.
    """

    def __init__(
        self,
        address: str | None = None,
        actors: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        threads: int | None = None,
        roles: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> None:
        check_range(1, 1024, **_given(threads=threads))
        self.address, self.threads = address, threads
        self.common = ActorSettings(actors, num_cpus, num_gpus)
        self.roles = {role: _settings(role, given) for role, given in (roles or {}).items()}
        _ray()

    @property
    def width(self) -> int:
        """So many batches are at work or wait; before Ray is needed, as if it had this machine alone."""
        known = _cluster(self.address) if _cluster.cache_info().currsize else None
        cores, gpus = (known.n_cores, known.n_gpus) if known else (os.cpu_count() or 1, 0)
        return _AHEAD * max(self._settings_of(role, cores, gpus).actors or 1 for role in ("", *self.roles))

    def run(
        self, work: Work, batches: Iterator[Batch], folder: ItemFolder | None
    ) -> Iterator[tuple[str, Value]]:
        """The name and value of each item, as they are done.

        Raises:
            RunError: the cluster has no room for an actor, or a batch ends every actor that works on it.
        """
        first = next(batches, None)
        if first is None:
            return
        pool = self._pool(work)
        job = _Job(pool, packed(work.make, pool.cluster.name_of), None if folder is None else folder.root)
        try:
            yield from job.results(chain([first], batches), folder)
        finally:
            job.end()

    def _pool(self, work: Work) -> _Pool:
        cluster = _cluster(self.address)
        settings = self._settings_of(work.role, cluster.n_cores, cluster.n_gpus)
        part = work.part
        where = getattr(part, "device", None), getattr(getattr(part, "batches", None), "size", None)
        key = (work.role, type(part).__qualname__, str(part.fingerprint), where, settings)
        if key not in cluster.pools:
            threads = self.threads or max(cluster.n_cores // (settings.actors or 1), 1)
            cluster.pools[key] = _Pool(cluster, work, settings, threads)
        cluster.pools[key] = cluster.pools.pop(key)  # the one used last stands last
        return cluster.pools[key]

    def _settings_of(self, role: str, n_cores: int, n_gpus: int) -> ActorSettings:
        """What actors of a role get: its own settings, else those of all, else by what there is."""
        own, common = self.roles.get(role, ActorSettings()), self.common
        return ActorSettings(
            _first(own.actors, common.actors, n_gpus or n_cores),
            _first(own.num_cpus, common.num_cpus, _SHARE),
            _first(own.num_gpus, common.num_gpus, _SHARE if n_gpus else 0.0),
        )


class _Cluster:
    """The connection to Ray, with the actors that this process has started."""

    def __init__(self, address: str | None) -> None:
        ray = _ray()
        if not ray.is_initialized():
            try:
                with _own_signals():
                    ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise RunError(f"executor.address={address!r}: Ray cannot be reached: {error}") from error
        self.measure()
        self.pools: dict[object, _Pool] = {}
        self._probes: dict[int, tuple[ProbeSet, str, Any]] = {}

    def measure(self) -> None:
        """Count the cores and GPUs, of which a cluster may get more."""
        resources = _ray().cluster_resources()
        self.n_cores, self.n_gpus = max(int(resources.get("CPU", 1)), 1), int(resources.get("GPU", 0))

    def name_of(self, probe: ProbeSet) -> str:
        """The name of a probing set that is sent to actors once."""
        if id(probe) not in self._probes:
            _keep_few(self._probes)
            self._probes[id(probe)] = (probe, uuid4().hex, _ray().put(packed(probe)))
        return self._probes[id(probe)][1]

    def make_room(self, pool: _Pool) -> None:
        """End actors of other models, those used longest ago first, until one more of this one fits."""
        self.measure()
        idle = [p for p in self.pools.values() if p is not pool and not any(m.waiting for m in p.members)]
        for other in idle:
            if self._fits(pool.settings):
                return
            for member in list(other.members):
                other.drop(member)

    def _fits(self, more: ActorSettings) -> bool:
        """Whether the cluster has room for an actor beside those of this process."""
        asked = [more, *(pool.settings for pool in self.pools.values() for _ in pool.members)]
        cores, gpus = (sum(getattr(one, name) or 0.0 for one in asked) for name in ("num_cpus", "num_gpus"))
        return cores <= self.n_cores + 1e-6 and gpus <= self.n_gpus + 1e-6

    def probes(self, parcel: Parcel) -> dict[str, list[Any]]:
        """Where the sets are that a parcel refers to; in lists, so that Ray does not fetch them unasked."""
        return {name: [ref] for _, name, ref in self._probes.values() if name in parcel.probes}


class _Actor:
    """Holds a part and makes values with it, in a process of its own."""

    def __init__(self, part: Parcel, threads: int, folder: str) -> None:
        import torch

        if Path(folder).is_dir():  # to which paths of settings are relative
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._part = part.opened({})
        self._probes: dict[str, ProbeSet] = {}

    def ready(self) -> bool:
        """Answers once the actor is there."""
        return True

    def make(
        self, make: Parcel, items: Parcel, probes: Mapping[str, list[Any]], batch: Batch, root: Path | None
    ) -> list[Value]:
        """The values of a batch, each written to the store's folder where this machine has that one."""
        for name in probes.keys() - self._probes.keys():
            _keep_few(self._probes)
            self._probes[name] = _ray().get(probes[name][0]).opened({})
        try:
            return self._made(make, items, batch, root)
        except DnrError:
            raise
        except Exception as error:  # of a kind that the driver may not know
            reason = (str(error).strip() or "-").splitlines()[0]
            raise RunError(f"unexpected {type(error).__name__}: {reason}") from None

    def _made(self, make: Parcel, items: Parcel, batch: Batch, root: Path | None) -> list[Value]:
        folder = ItemFolder(root) if root is not None else None
        # what one that died has done of the batch
        known = {name: folder.read(batch.stage, name) for name in batch.names} if folder else {}
        left = [place for place, name in enumerate(batch.names) if known.get(name) is None]
        handed = items.opened(self._probes)
        making = make.opened(self._probes)(self._part, [handed[place] for place in left]) if left else []
        for place, value in zip(left, making, strict=True):
            known[batch.names[place]] = value
            if folder is not None:
                folder.write(batch.stage, batch.names[place], value)
        return [known[name] for name in batch.names]

    def sees(self, file: Path) -> bool:
        """Whether this machine has a file that the store's folder was just given."""
        return file.exists()


@dataclass(eq=False)
class _Member:
    """An actor with the batches that it has, the one at work first; `shares`: whether it sees the store."""

    actor: Any
    starting: Any
    waiting: list[Any] = field(default_factory=list)
    shares: dict[Path, bool] = field(default_factory=dict)


class _Pool:
    """The actors that hold one part; they are started as there is work for them."""

    def __init__(self, cluster: _Cluster, work: Work, settings: ActorSettings, threads: int) -> None:
        self.cluster, self.settings, self.threads = cluster, settings, threads
        self.role, self._part = work.role, _ray().put(packed(work.part))
        self.members: list[_Member] = []
        self.failures = 0  # starts in a row

    @property
    def ready(self) -> list[_Member]:
        return [member for member in self.members if member.starting is None]

    def grow(self) -> None:
        """Start one more actor, unless there are as many as there may be."""
        if len(self.members) < (self.settings.actors or 1):
            self.cluster.make_room(self)
            kind = (
                _ray()
                .remote(_Actor)
                .options(num_cpus=self.settings.num_cpus, num_gpus=self.settings.num_gpus)
            )
            actor = kind.remote(self._part, self.threads, str(Path.cwd()))
            self.members.append(_Member(actor, actor.ready.remote()))

    def drop(self, member: _Member) -> None:
        """End an actor."""
        if member in self.members:
            _ray().kill(member.actor)
            self.members.remove(member)


@dataclass(frozen=True)
class _Task:
    """A batch that an actor has; `tries`: how many actors it has ended."""

    batch: Batch
    items: Parcel
    member: _Member
    tries: int = 0


class _Job:
    """One call of `run`: batches go to actors with room, results come back as they are done."""

    def __init__(self, pool: _Pool, make: Parcel, root: Path | None) -> None:
        self.pool, self.root = pool, None if root is None else root.resolve()
        self._make, self._probes = _ray().put(make), pool.cluster.probes(make)
        self._tasks: dict[Any, _Task] = {}
        self._again: list[_Task] = []

    def results(self, batches: Iterator[Batch], folder: ItemFolder | None) -> Iterator[tuple[str, Value]]:
        """The name and value of each item; what actors could not write is written here."""
        ray, waited, more = _ray(), 0.0, True
        for member in self.pool.ready:  # one may have died since it was used
            member.starting = member.actor.ready.remote()
        while more or self._tasks or self._again:
            more = self._hand_out(batches, more)
            starting = {m.starting: m for m in self.pool.members if m.starting is not None}
            done, _ = ray.wait([*self._tasks, *starting], num_returns=1, timeout=_LOOK)
            waited = 0.0 if done or self.pool.ready else waited + _LOOK
            if waited > _PATIENCE:
                raise self._no_room()
            for ref in done:
                if ref in starting:
                    self._started(ref, starting[ref])
                else:
                    yield from self._finished(ref, folder)

    def end(self) -> None:
        """Actors that still work on what nobody waits for are ended."""
        for member in {task.member for task in self._tasks.values()}:
            self.pool.drop(member)
        self._tasks.clear()

    def _hand_out(self, batches: Iterator[Batch], more: bool) -> bool:
        """Give actors with room their batches; False when there are no more."""
        while True:
            free = min(self.pool.ready, key=lambda member: len(member.waiting), default=None)
            if free is None or free.waiting:  # another one would start at once
                self.pool.grow()
            if free is None or len(free.waiting) >= _AHEAD:
                return more
            if self._again:
                self._submit(replace(self._again.pop(), member=free))
                continue
            batch = next(batches, None) if more else None
            if batch is None:
                return False
            items = packed(list(batch.items), self.pool.cluster.name_of)
            self._submit(_Task(replace(batch, items=()), items, free))

    def _submit(self, task: _Task) -> None:
        member = task.member
        probes = self._probes | self.pool.cluster.probes(task.items)
        root = self.root if self.root is not None and self._shares(member, self.root) else None
        ref = member.actor.make.remote(self._make, task.items, probes, task.batch, root)
        member.waiting.append(ref)
        self._tasks[ref] = task

    def _shares(self, member: _Member, root: Path) -> bool:
        """Whether an actor sees the store: it is asked for a file that was just written there."""
        if root not in member.shares:
            root.mkdir(parents=True, exist_ok=True)
            file = root / f".seen-{uuid4().hex}"
            file.touch()
            try:
                member.shares[root] = bool(_ray().get(member.actor.sees.remote(file)))
            except _ray().exceptions.RayError:
                return False  # that it is dead is found out with its batch
            finally:
                file.unlink(missing_ok=True)
        return member.shares[root]

    def _started(self, ref: Any, member: _Member) -> None:
        try:
            _ray().get(ref)
            member.starting, self.pool.failures = None, 0
        except _ray().exceptions.RayTaskError as error:
            raise _cause(error) from None
        except _ray().exceptions.RayError as error:
            self._died(member)
            self.pool.failures += 1
            if self.pool.failures >= _TRIES:
                raise RunError(
                    f"actors of {self.pool.role} do not start: {str(error).splitlines()[-1]}"
                ) from error

    def _finished(self, ref: Any, folder: ItemFolder | None) -> Iterator[tuple[str, Value]]:
        task = self._tasks[ref]
        try:
            values = _ray().get(ref)
        except _ray().exceptions.RayTaskError as error:
            raise _cause(error) from None
        except _ray().exceptions.RayError:
            self._died(task.member)
            return
        del self._tasks[ref]
        task.member.waiting.remove(ref)
        for name, value in zip(task.batch.names, values, strict=True):
            if folder is not None and not task.member.shares.get(folder.root.resolve()):
                folder.write(task.batch.stage, name, value)
            yield name, value

    def _died(self, member: _Member) -> None:
        """Take back the batches of an actor that is gone; only the one at work may have ended it."""
        self.pool.drop(member)
        lost = [self._tasks.pop(ref) for ref in member.waiting]
        self._again += [replace(task, tries=task.tries + (place == 0)) for place, task in enumerate(lost)]
        if lost and lost[0].tries + 1 >= _TRIES:
            raise RunError(
                f"{lost[0].batch.stage}: {_TRIES} actors of {self.pool.role} have ended in the same batch of"
                f" {len(lost[0].batch.names)}: not enough memory? executor.roles.{self.pool.role}.actors=1,"
                " or a smaller batch_size"
            )

    def _no_room(self) -> RunError:
        settings, ray = self.pool.settings, _ray()
        return RunError(
            f"Ray has found no room for an actor of {self.pool.role} in {_PATIENCE:.0f} s: it asks for"
            f" num_cpus={settings.num_cpus} num_gpus={settings.num_gpus}, and free are"
            f" {ray.available_resources()} of {ray.cluster_resources()}"
        )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps what this process does on signals, which Ray would replace."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _keep_few(sets: dict[Any, Any]) -> None:
    """Make room for one more probing set: the jobs of a multirun have sets of their own."""
    while len(sets) >= _SETS:
        del sets[next(iter(sets))]


def _cause(error: Any) -> BaseException:
    """What went wrong in an actor, as it would have here."""
    found = error.cause
    return found if isinstance(found, Exception) else RunError(str(error))


def _settings(role: str, given: Mapping[str, float | None]) -> ActorSettings:
    known = ActorSettings.__annotations__
    if unknown := set(given) - set(known):
        raise UsageError(f"roles.{role}.{min(unknown)}: allowed are {', '.join(known)}")
    return ActorSettings(**given)  # type: ignore[arg-type]


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


@cache
def _cluster(address: str | None) -> _Cluster:
    return _Cluster(address)


@cache
def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("executor=ray needs Ray: pip install 'dnr-bench[ray]'") from error
    return ray
