"""One server process follows its registry: it holds what labels need, and tells how far it is.

A thread looks at the registry twenty times a second, which costs two looks at a file; another
loads, so that a rollback need not wait for a release that is just being loaded.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from upnext.errors import ReleaseError
from upnext.registry.journal import Standing
from upnext.registry.labels import journal_path, read_standings
from upnext.registry.servers import WANTED, Presence, Wanted, read_wanted, servers_path
from upnext.serving.releases import LiveReleases, LiveState

logger = logging.getLogger(__name__)

_UNSURE_S = 0.1
"""A file that changed so lately may change again without its time showing it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a server should do next, by what it holds now.

    `labels`: where labels can point at once. `to_load`: most urgent first. `needed`: versions to
    hold. `problems`: by label. `followed`: by label, the line of the journal that is done with.
    """

    labels: dict[str, int] = field(default_factory=dict)
    to_load: list[int] = field(default_factory=list)
    needed: set[int] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    followed: dict[str, int] = field(default_factory=dict)


def make_plan(standings: Mapping[str, Standing], wanted: set[int], state: LiveState) -> Plan:
    """What to do so that labels stand as in the journal, and what is needed is ready.

    A label whose version is not loaded yet stays where it is until then. One whose version fails
    stays for good; if it stands nowhere, as after a start, it takes the last version before that
    does load. The journal says then what it said before.
    """
    plan = Plan(needed=set(wanted))
    for name, standing in standings.items():
        plan.needed.add(standing.version)
        _follow(plan, name, standing, state)
    plan.needed.update({**state.labels, **plan.labels}.values())
    plan.to_load.extend(sorted(wanted))
    for name, standing in standings.items():
        if (back := standing.rollback_version) is not None:
            plan.needed.add(back)
            plan.to_load.append(back)
            if back in state.failed:
                plan.problems[f"rollback of {name}"] = f"version {back}: {state.failed[back]}"
    held = {*state.loaded, *state.failed}
    plan.to_load[:] = [v for v in dict.fromkeys(plan.to_load) if v not in held]
    return plan


def _follow(plan: Plan, name: str, standing: Standing, state: LiveState) -> None:
    if standing.version in state.loaded:
        plan.labels[name] = standing.version
    elif standing.version in state.failed:
        problem = f"label {name}, version {standing.version}: {state.failed[standing.version]}"
        instead = state.labels.get(name)
        for version in reversed(standing.versions[:-1]):
            if instead is None and version not in state.failed:
                plan.needed.add(version)
                if version not in state.loaded:
                    plan.to_load.append(version)
                    plan.problems[name] = problem
                    return
                instead = plan.labels[name] = version
        answers = "nothing" if instead is None else f"version {instead}"
        plan.problems[name] = f"{problem}\n{answers} answers in its place."
    else:
        plan.to_load.append(standing.version)
        return
    plan.followed[name] = standing.num_lines


class Following:
    """Keeps live releases as a registry wants them, while this `with` block runs.

    To be entered in the process that answers, after any fork.
    """

    def __init__(self, live: LiveReleases, registry: Path, *, look_every_s: float = 0.05) -> None:
        self.live = live
        self.registry = registry
        self._look_every_s = look_every_s
        self._standings: Mapping[str, Standing] = {}
        self._wanted = Wanted()
        self._seen: object = None
        self._journal_problem: dict[str, str] = {}
        self._loading: int | None = None
        self._to_load: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._ends = False
        self._looked = threading.Condition()
        self._plan = Plan()
        self._planned_for: LiveState | None = None

    def __enter__(self) -> Self:
        """Joins the servers of the registry, and begins to load. Raises ReleaseError: it cannot."""
        self._presence = Presence.join(self.registry)
        self._look()
        self._threads = [
            threading.Thread(target=self._keep_looking, name="follow", daemon=True),
            threading.Thread(target=self._keep_loading, name="load", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Is no server any longer; what is being loaded is not waited for."""
        self._ends = True
        self._wake.set()
        self._to_load.put(None)
        self._threads[0].join()
        self._presence.leave()

    @property
    def server(self) -> str:
        """What others know this process by."""
        return self._presence.status.server

    def wait(self, timeout_s: float | None = None) -> bool:
        """Returns once every label of the journal is followed, or has failed as far as it can.

        False: it took longer than that.
        """
        with self._looked:
            return self._looked.wait_for(
                lambda: self._plan.followed.keys() == self._standings.keys(), timeout_s
            )

    def _keep_looking(self) -> None:
        while not self._ends:
            self._wake.wait(self._look_every_s)
            self._wake.clear()
            try:
                self._look()
            except Exception:  # a follower that dies would follow no label ever after
                logger.exception("the registry could not be followed")

    def _keep_loading(self) -> None:
        while (version := self._to_load.get()) is not None:
            try:
                self.live.load(version)
            except Exception:  # whatever a broken release raises, the others serve on
                logger.exception("release %d could not be loaded", version)
            self._loading = None
            self._wake.set()

    def _look(self) -> None:
        state = self.live.state
        if not self._read() and state is self._planned_for and not self._is_waiting(state):
            return
        now_ms = time.time_ns() // 1_000_000
        plan = make_plan(self._standings, self._wanted.versions(now_ms), self.live.state)
        for name, version in plan.labels.items():
            if self.live.state.labels.get(name) != version:
                self.live.label(name, version)
        for version in self.live.state.loaded.keys() - plan.needed:
            self.live.unload(version)
        for version in self.live.state.failed.keys() - plan.needed:
            self.live.forget(version)
        problems = {**self._journal_problem, **plan.problems}
        if problems != self.live.state.problems:
            self.live.tell_problems(problems)
        if self._loading is None and plan.to_load:
            self._loading = plan.to_load[0]
            self._to_load.put(self._loading)
        self._tell(plan)
        # Of the state before: what a load or an answer changes meanwhile asks for another look.
        self._planned_for = state if self.live.state is state else None
        with self._looked:
            self._plan = plan
            self._looked.notify_all()

    def _is_waiting(self, state: LiveState) -> bool:
        """Whether there may be something to do though nothing was changed."""
        asks_lapse = any(ask.until_ms is not None for ask in self._wanted.asks)
        return asks_lapse or bool(self._plan.to_load or state.draining)

    def _tell(self, plan: Plan) -> None:
        state, told = self.live.state, self._presence.status
        status = replace(
            told,
            releases=state.held,
            labels=dict(state.labels),
            followed={**told.followed, **plan.followed},
            num_asks=self._wanted.num_asks,
            problems=dict(state.problems),
        )
        if status != told:
            self._presence.tell(status)

    def _read(self) -> bool:
        """Reads what changed, if anything did.

        A version that failed is tried again once it is asked for anew or a label moves.
        """
        seen, is_sure = _fingerprint(self.registry)
        if seen == self._seen:
            return False
        self._seen = seen if is_sure else None
        try:
            # The asks first: one is taken back only after the label that needs it has moved.
            wanted, standings = read_wanted(self.registry), read_standings(self.registry)
        except ReleaseError as error:
            if not self._journal_problem:
                logger.exception("the registry could not be read")
            self._journal_problem = {"journal": str(error)}
            return True
        self._journal_problem = {}
        if standings != self._standings:
            again = set(self.live.state.failed)
        else:
            again = {ask.version for ask in wanted.asks if ask.number > self._wanted.num_asks}
        for version in again:
            self.live.forget(version)
        self._standings, self._wanted = standings, wanted
        return True


def _fingerprint(registry: Path) -> tuple[object, bool]:
    """What tells a change of the registry, and whether the next change is sure to be told."""
    seen: list[tuple[int, int, int] | None] = []
    newest_ns = 0
    for path in (servers_path(registry) / WANTED, journal_path(registry)):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            seen.append(None)
        else:
            seen.append((status.st_ino, status.st_size, status.st_mtime_ns))
            newest_ns = max(newest_ns, status.st_mtime_ns)
    return tuple(seen), time.time_ns() - newest_ns > _UNSURE_S * 1e9
