"""The releases that answer right now: loading → ready → draining → gone, or failed.

A release is opened and tried first, then takes a label in one assignment. Which releases and
labels there should be is told from outside: by hand, or by `following.py` out of a registry.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from upnext.errors import ReleaseError, UpnextError
from upnext.registry.servers import HeldRelease, State
from upnext.schema import Floats, Id, LivePast, RecommendationRequest, Recommendations
from upnext.serving.looking import Insight

T = TypeVar("T")


class Recommender(Protocol):
    """What answers a request from one release; called from several threads at once."""

    @property
    def release(self) -> str:
        """The version of the release, as it stands in every answer."""

    @property
    def known_until_ms(self) -> int:
        """The end of the logs that the release knows users' past from."""

    @property
    def insight(self) -> Insight:
        """The release, to be looked into."""

    @property
    def num_tried(self) -> int:
        """Requests that it answered while it was opened."""

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

    def index_recall(self, request: RecommendationRequest, live: LivePast | None) -> float | None:
        """Share of what an exact search finds that the index finds too; None: it is exact."""

    def let_go(self) -> None:
        """Nobody asks it any more: gives its memory back, disturbing nobody."""


class NotServedError(UpnextError):
    """No release is there that could answer: none has this label, or none is loaded yet."""


class Loaded:
    """A release that answers, and how many answers it is busy with."""

    def __init__(
        self, version: int, recommender: Recommender, *, load_time_s: float, num_tried: int
    ) -> None:
        self.version = version
        self.recommender = recommender
        self._load_time_s, self._num_tried = load_time_s, num_tried
        self._lock = threading.Lock()
        self._num_running = 0
        self._is_open = True

    @property
    def num_running(self) -> int:
        """Answers that have begun and are not done."""
        return self._num_running

    def described(self, state: State) -> HeldRelease:
        """As others are told of it."""
        return HeldRelease(
            version=self.version,
            state=state,
            load_time_s=self._load_time_s,
            num_tried=self._num_tried,
            num_running=self._num_running if state == "draining" else 0,
        )

    def begin(self) -> bool:
        """One more answer begins; False where none may begin any more."""
        with self._lock:
            self._num_running += self._is_open
            return self._is_open

    def end(self) -> bool:
        """An answer is done; True where it was the last that there will be."""
        with self._lock:
            self._num_running -= 1
            return not self._is_open and self._num_running == 0

    def close(self) -> bool:
        """No answer may begin from now on; True where none is under way either."""
        with self._lock:
            self._is_open = False
            return self._num_running == 0

    def reopen(self) -> bool:
        """Answers may begin again; False where the last one was done already."""
        with self._lock:
            self._is_open = self._num_running > 0
            return self._is_open

    def let_go(self) -> None:
        """Gives its memory back, in a thread of its own, as that takes long on purpose."""
        threading.Thread(target=self.recommender.let_go, name="let go", daemon=True).start()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """What is loaded, which labels point where, and why what should be there is not.

    Every label points at a version in `loaded`, and these are ready. `draining`: versions on which
    no answer begins any more. `failed`: by version, why it could not be loaded. `problems`: by
    label, why it is not where it should be.
    """

    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    loading: int | None = None
    draining: Mapping[int, Loaded] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def recommenders(self) -> Mapping[int, Recommender]:
        """What answers, by version."""
        return {version: loaded.recommender for version, loaded in self.loaded.items()}

    @property
    def held(self) -> tuple[HeldRelease, ...]:
        """How every version fares, by version."""
        held = [one.described("ready") for one in self.loaded.values()]
        held += [one.described("draining") for one in self.draining.values()]
        held += [
            HeldRelease(version=version, state="failed", cause=cause)
            for version, cause in self.failed.items()
        ]
        if self.loading is not None:
            held.append(HeldRelease(version=self.loading, state="loading"))
        return tuple(sorted(held, key=lambda one: one.version))

    def find(self, label: str | None, version: int | None) -> Loaded | None:
        """What answers a label, or else a version; None where nothing does."""
        wanted = version if label is None else self.labels.get(label)
        return None if wanted is None else self.loaded.get(wanted)


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a request, and the label that led there; None: the version was named."""

    recommender: Recommender
    version: int
    label: str | None


class LiveReleases:
    """Loaded releases by label: load, then label; requests never wait for either.

    A request reads the state once and keeps the release that it found there. Every change is one
    assignment of a new state, so no request sees half of one, and a release that is unloaded
    lives on until its last answer is done.

    `open_recommender` makes the recommender of a version; it verifies the release as it opens.
    """

    def __init__(self, open_recommender: Callable[[int], Recommender]) -> None:
        self._open_recommender = open_recommender
        self._state = LiveState()
        self._changing = threading.Lock()
        self._loading = threading.Lock()

    @property
    def state(self) -> LiveState:
        """The state at this moment; it never changes, but the next one may be another."""
        return self._state

    @contextmanager
    def acquire(self, label: str | None = None, version: int | None = None) -> Iterator[Route]:
        """What answers a label, or else a version, which stays loaded inside the block.

        Raises: NotServedError: no release has this label, or the version is not ready.
        """
        loaded = self._begin(label, version)
        try:
            yield Route(loaded.recommender, loaded.version, label)
        finally:
            if loaded.end():
                self._finish(loaded)

    def load(self, version: int) -> None:
        """Makes a version ready: opens it and lets it answer one request; one load at a time.

        Whatever opening or answering raises goes to the caller; the version then counts as
        failed, and nothing else has changed.
        """
        with self._loading:
            if self._readmit(version):
                return
            self._change(lambda state: replace(state, loading=version))
            began_s = time.monotonic()
            try:
                recommender = self._open_recommender(version)
                recommender.recommend(RecommendationRequest())
                num_tried = recommender.num_tried + 1
            except BaseException as error:
                cause = f"{type(error).__name__}: {error}"
                self._change(
                    lambda state: replace(
                        state, loading=None, failed={**state.failed, version: cause}
                    )
                )
                raise
            load_time_s = round(time.monotonic() - began_s, 4)
            loaded = Loaded(version, recommender, load_time_s=load_time_s, num_tried=num_tried)
            self._change(
                lambda state: replace(state, loading=None, loaded={**state.loaded, version: loaded})
            )

    def label(self, name: str, version: int) -> None:
        """Points a label at a loaded version; answers from now on begin on it.

        Raises:
            ReleaseError: the version is not ready.
        """

        def labelled(state: LiveState) -> LiveState:
            if version not in state.loaded:
                raise ReleaseError(
                    f"label {name}",
                    expected="a loaded version",
                    got=f"version {version}",
                    hint="load it first, so that no request waits for it.",
                )
            return replace(state, labels={**state.labels, name: version})

        self._change(labelled)

    def unload(self, version: int) -> None:
        """Lets a version go once its last answer is done; until then it drains.

        Raises:
            ReleaseError: a label still points at it.
        """

        gone: list[Loaded] = []

        def unloaded(state: LiveState) -> LiveState:
            if labels := [name for name, there in state.labels.items() if there == version]:
                raise ReleaseError(
                    f"version {version}", expected="no label on it", got=", ".join(labels)
                )
            loaded = state.loaded.get(version)
            if loaded is None:
                return state
            drains = {version: loaded}
            if loaded.close():
                gone.append(loaded)
                drains = {}
            return replace(
                state,
                loaded=_without(state.loaded, version),
                draining={**state.draining, **drains},
            )

        self._change(unloaded)
        for loaded in gone:
            loaded.let_go()

    def forget(self, version: int) -> None:
        """A version that failed counts as never tried."""
        self._change(lambda state: replace(state, failed=_without(state.failed, version)))

    def tell_problems(self, problems: Mapping[str, str]) -> None:
        """What is not as it should be, by label; takes the place of what was told before."""
        self._change(lambda state: replace(state, problems=dict(problems)))

    def _begin(self, label: str | None, version: int | None) -> Loaded:
        # A release may close between the look at the state and the count; the next state has
        # another in its place, or none.
        while (loaded := (state := self._state).find(label, version)) is not None:
            if loaded.begin():
                return loaded
        there = state.loaded if label is None else state.labels
        raise NotServedError(
            "version" if label is None else "label",
            expected=f"one of {', '.join(map(str, there))}" if there else "a loaded release",
            got=repr(version if label is None else label),
            hint="" if there else "`upnext label REGISTRY stable VERSION` makes it answer.",
        )

    def _finish(self, loaded: Loaded) -> None:
        def finished(state: LiveState) -> LiveState:
            if state.draining.get(loaded.version) is not loaded:
                return state
            return replace(state, draining=_without(state.draining, loaded.version))

        self._change(finished)
        loaded.let_go()

    def _readmit(self, version: int) -> bool:
        """Whether a version is ready, be it that it was draining and need not any more."""

        def readmitted(state: LiveState) -> LiveState:
            failed = _without(state.failed, version)
            draining = state.draining.get(version)
            if draining is None or version in state.loaded:
                return replace(state, failed=failed)
            again = {version: draining} if draining.reopen() else {}
            return replace(
                state,
                failed=failed,
                loaded={**state.loaded, **again},
                draining=_without(state.draining, version),
            )

        return version in self._change(readmitted).loaded

    def _change(self, change: Callable[[LiveState], LiveState]) -> LiveState:
        with self._changing:
            self._state = change(self._state)
            return self._state


def _without(mapping: Mapping[int, T], version: int) -> dict[int, T]:
    return {key: value for key, value in mapping.items() if key != version}
