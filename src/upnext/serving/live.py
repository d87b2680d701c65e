"""The releases that answer right now. Each loads and warms up first, then takes a label whole."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from upnext.errors import ReleaseError, UpnextError
from upnext.registry.labels import journal_path, read_labels
from upnext.schema import Floats, Id, LivePast, RecommendationRequest, Recommendations

logger = logging.getLogger(__name__)

DEFAULT_LABEL = "stable"


class Recommender(Protocol):
    """What answers a request from one release; called from several threads at once."""

    @property
    def release(self) -> str:
        """The version of the release, as it stands in every answer."""

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Answers one request."""

    def recommend_all(
        self,
        requests: Sequence[RecommendationRequest],
        live: Sequence[LivePast | None],
        *,
        rank_before_s: float,
    ) -> list[Recommendations]:
        """Answers some at once; after `rank_before_s` (`time.monotonic`) nothing is ranked."""

    def popular(
        self, request: RecommendationRequest, live: LivePast | None, cause: str
    ) -> Recommendations:
        """What is watched most where this user is, because of `cause`."""

    def similar(self, item_id: Id, k: int) -> Recommendations:
        """The k items that are most like one."""

    def user_vectors(
        self, requests: Sequence[RecommendationRequest], live: Sequence[LivePast | None]
    ) -> Floats:
        """[B, D]."""

    def rank(
        self, request: RecommendationRequest, live: LivePast | None, item_ids: Sequence[Id]
    ) -> Floats:
        """[len(item_ids)] expected watch times in seconds."""


class NotServedError(UpnextError):
    """No loaded release answers to this label or version."""


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a request, and the label that led there; None: the version was named."""

    recommender: Recommender
    version: int
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """What is loaded, which labels point where, and why what should be there is not.

    Every label points at a loaded version.
    """

    recommenders: Mapping[int, Recommender] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def recommender(self, label: str) -> Recommender | None:
        """What answers under a label; None where nothing does."""
        version = self.labels.get(label)
        return None if version is None else self.recommenders[version]


class LiveReleases:
    """Loaded releases by label: load, then label; requests never wait for either.

    A request reads `state` once and keeps the recommender that it found there. Every change is
    one assignment of a new state, so no request sees half of one, and a release that is
    unloaded lives on until its last request is answered.

    `open_recommender` makes the recommender of a version; it verifies the release as it opens.
    `registry`: where `follow_labels` looks for moved labels; None follows nothing.
    """

    def __init__(
        self, open_recommender: Callable[[int], Recommender], *, registry: Path | None = None
    ) -> None:
        self.registry = registry
        self._open_recommender = open_recommender
        self._state = LiveState()
        self._changing = threading.RLock()
        self._journal_seen: tuple[int, int] | None = None

    @property
    def state(self) -> LiveState:
        """The state at this moment; it never changes, but the next one may be another."""
        return self._state

    @contextlib.contextmanager
    def acquire(self, label: str | None, version: int | None) -> Iterator[Route]:
        """What answers a label, or else a version, which stays loaded inside the block.

        Raises: NotServedError: nothing loaded does.
        """
        state = self._state
        wanted = state.labels.get(label) if label is not None else version
        if wanted is None or wanted not in state.recommenders:
            raise NotServedError(
                "version" if label is None else "label",
                expected=f"one of {', '.join(state.labels)}"
                if state.labels
                else "a loaded release",
                got=repr(version if label is None else label),
            )
        yield Route(state.recommenders[wanted], wanted, label)

    def load(self, version: int) -> None:
        """Makes a version ready: opens it and lets it answer one request, as a warm-up.

        Whatever opening or answering raises goes to the caller, and nothing has changed.
        """
        with self._changing:
            if version in self._state.recommenders:
                return
            recommender = self._open_recommender(version)
            recommender.recommend(RecommendationRequest())
            recommenders = {**self._state.recommenders, version: recommender}
            self._state = replace(self._state, recommenders=recommenders)

    def label(self, name: str, version: int) -> None:
        """Points a label at a loaded version; requests from now on are answered by it.

        Raises:
            ReleaseError: the version is not loaded.
        """
        with self._changing:
            if version not in self._state.recommenders:
                raise ReleaseError(
                    f"label {name}",
                    expected="a loaded version",
                    got=f"version {version}",
                    hint="load it first, so that no request waits for it.",
                )
            self._state = replace(self._state, labels={**self._state.labels, name: version})

    def unload(self, version: int) -> None:
        """Lets a version go once its last request is answered.

        Raises:
            ReleaseError: a label still points at it.
        """
        with self._changing:
            labels = [name for name, there in self._state.labels.items() if there == version]
            if labels:
                raise ReleaseError(
                    f"version {version}", expected="no label on it", got=", ".join(labels)
                )
            recommenders = {
                loaded: recommender
                for loaded, recommender in self._state.recommenders.items()
                if loaded != version
            }
            self._state = replace(self._state, recommenders=recommenders)

    def follow_labels(self) -> bool:
        """Loads and labels what moved in the registry since the last look; says whether any did.

        Cheap where nothing moved: one look at the journal's size and time. A version that fails
        to load leaves its label where it was, is told in `state.problems`, and is tried again
        when the journal next changes. Versions that lost their last label are unloaded.
        """
        if self.registry is None or (seen := _fingerprint(self.registry)) == self._journal_seen:
            return False
        with self._changing:
            before = self._state.labels
            problems: dict[str, str] = {}
            try:
                wanted = read_labels(self.registry)
            except ReleaseError as error:
                wanted = {}
                problems["journal"] = _told("the journal of labels", error)
            for name, version in wanted.items():
                try:
                    self.load(version)
                    self.label(name, version)
                except Exception as error:  # whatever a broken release raises, the others serve on
                    problems[name] = _told(f"label {name}, version {version}", error)
            for version in set(before.values()) - set(self._state.labels.values()):
                self.unload(version)
            self._state = replace(self._state, problems=problems)
            self._journal_seen = seen
            return self._state.labels != before


def _fingerprint(registry: Path) -> tuple[int, int] | None:
    try:
        status = journal_path(registry).stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _told(what: str, error: Exception) -> str:
    logger.error("%s could not be followed", what, exc_info=error)
    return f"{what}: {error}"
