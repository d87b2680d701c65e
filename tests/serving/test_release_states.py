"""Whatever is done in whatever order, releases and labels are as a plain model says."""

import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.patience import SOON_S

from upnext.errors import ReleaseError
from upnext.registry.journal import LabelConflictError
from upnext.registry.labels import read_labels, read_moves
from upnext.registry.moves import load_release, move_label, rollback, unload_release
from upnext.registry.release import open_release, publish
from upnext.schema import RecommendationRequest, Recommendations
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases, NotServedError, Recommender, Route

VERSIONS = (1, 2, 3, 4)
LABELS = ("stable", "canary")

versions = st.sampled_from(VERSIONS)
labels = st.sampled_from(LABELS)


class _Plain:
    """A recommender that knows its version, and that nothing was tried."""

    def __init__(self, version: int) -> None:
        self.release = str(version)
        self.num_tried = 0

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        assert request is not None
        return Recommendations(items=[], release=self.release, num_candidates=0, timings_ms={})

    def let_go(self) -> None:
        """There is nothing to let go of."""


class Releases(RuleBasedStateMachine):
    """One registry and one server on this side; sets and lists on the other.

    The model: `stacks` of versions by label, `damaged`, `wanted` without a label; and of the
    server `loaded`, `failed`, which version `answers` under a label, what is `under_way`, and how
    often each version was `opened`.
    """

    @initialize()
    def begin(self) -> None:
        self.registry = Path(tempfile.mkdtemp())
        for _ in VERSIONS:
            publish(self.registry, lambda path: {"size": (path / "a.txt").write_text("whole")})
        self.stacks: dict[str, list[int]] = {}
        self.num_moves = 0
        self.damaged: set[int] = set()
        self.wanted: set[int] = set()
        self.running = ExitStack()
        self.live: LiveReleases | None = None
        self._forget_server()

    def teardown(self) -> None:
        self.running.close()
        shutil.rmtree(self.registry)

    # What is done

    @rule()
    def restart(self) -> None:
        self.stop()
        self.live = LiveReleases(self._open)
        following = Following(self.live, self.registry, look_every_s=0.001)
        self.running.enter_context(following)
        assert following.wait(30)
        self._settle()

    @precondition(lambda self: self.live is not None)
    @rule()
    def stop(self) -> None:
        self.running.close()
        self.live = None
        self._forget_server()

    @rule(label=labels, version=versions)
    def move(self, label: str, version: int) -> None:
        if version in self.damaged:
            with pytest.raises(ReleaseError, match=r"a\.txt"):
                move_label(self.registry, label, version)
            return
        move_label(self.registry, label, version)
        stack = self.stacks.setdefault(label, [])
        if stack[-1:] != [version]:
            stack.append(version)
        self._moved(version)

    @rule(label=labels, version=versions, expected=st.none() | versions)
    def move_from_elsewhere(self, label: str, version: int, expected: int | None) -> None:
        stack = self.stacks.get(label, [])
        if expected != (stack[-1] if stack else None):
            with pytest.raises(LabelConflictError):
                move_label(self.registry, label, version, expected_previous=expected)

    @rule(label=labels)
    def go_back(self, label: str) -> None:
        stack = self.stacks.get(label, [])
        if len(stack) < 2:
            with pytest.raises(LabelConflictError):
                rollback(self.registry, label)
            return
        if self._may_be_ready(stack[-2]):
            rollback(self.registry, label)
            stack.pop()
            self._moved(stack[-1])
        else:
            with pytest.raises(ReleaseError):
                rollback(self.registry, label)
            self._settle()

    @rule(version=versions)
    def load(self, version: int) -> None:
        if version in self.damaged:
            with pytest.raises(ReleaseError, match=r"a\.txt"):
                load_release(self.registry, version)
            return
        load_release(self.registry, version)
        self.wanted.add(version)
        self.failed.discard(version)
        self._settle()

    @rule(version=versions)
    def unload(self, version: int) -> None:
        if version in {*self._labelled(), *self.answers.values()}:
            with pytest.raises(LabelConflictError):
                unload_release(self.registry, version)
            return
        unload_release(self.registry, version)
        self.wanted.discard(version)
        self._settle()

    @rule(version=versions, text=st.sampled_from(["whale", "whole"]))
    def damage_or_repair(self, version: int, text: str) -> None:
        path = self.registry / f"releases/{version}/a.txt"
        path.chmod(0o644)
        path.write_text(text, encoding="utf-8")
        (self.damaged.add if text == "whale" else self.damaged.discard)(version)

    @precondition(lambda self: self.live is not None)
    @rule(label=labels)
    def begin_answer(self, label: str) -> None:
        assert self.live is not None
        one = ExitStack()
        if label in self.answers:
            route = one.enter_context(self.live.acquire(label))
            assert route.version == self.answers[label]
            self.under_way.append((one, route))
            self.running.push(one)
        else:
            with pytest.raises(NotServedError):
                one.enter_context(self.live.acquire(label))

    @precondition(lambda self: self.under_way)
    @rule()
    def finish_answer(self) -> None:
        one, route = self.under_way.pop(0)
        assert route.recommender.release == str(route.version)
        one.close()

    # What holds

    @invariant()
    def labels_are_as_the_model_says(self) -> None:
        assert read_labels(self.registry) == {
            label: self.stacks[label][-1] for label in sorted(self.stacks)
        }
        assert len(read_moves(self.registry)) == self.num_moves

    @invariant()
    def the_server_is_as_the_model_says(self) -> None:
        if self.live is None:
            return
        busy = {route.version for _, route in self.under_way}
        states = dict.fromkeys(self.failed, "failed") | dict.fromkeys(self.loaded, "ready")
        states |= dict.fromkeys(busy - self.loaded - self.failed, "draining")
        expected = (states, self.answers, self.opened)
        give_up_s = time.monotonic() + SOON_S
        while (found := self._found()) != expected:
            assert time.monotonic() < give_up_s, (found, expected)
            time.sleep(0.001)

    # The model

    def _moved(self, version: int) -> None:
        self.num_moves += 1
        self.wanted.discard(version)
        self.failed.clear()
        self._settle()

    def _settle(self) -> None:
        """What a server makes of it: what is needed is loaded, in doubt an older version."""
        if self.live is None:
            return
        for label, stack in self.stacks.items():
            if self._load(stack[-1]):
                self.answers[label] = stack[-1]
            elif label not in self.answers:
                good = next((version for version in reversed(stack) if self._load(version)), None)
                if good is not None:
                    self.answers[label] = good
        needed = {*self._labelled(), *self.wanted, *self.answers.values()}
        for version in needed:
            self._load(version)
        self.loaded &= needed
        self.failed &= needed

    def _load(self, version: int) -> bool:
        if version not in self.loaded | self.failed:
            (self.loaded if self._may_be_ready(version) else self.failed).add(version)
            is_open = version in {route.version for _, route in self.under_way}
            self.opened[version] += version in self.loaded and not is_open
        return version in self.loaded

    def _may_be_ready(self, version: int) -> bool:
        """A version that a server has open is whole there, whatever became of its files since."""
        busy = {route.version for _, route in self.under_way}
        return version not in self.damaged or version in self.loaded | busy

    def _labelled(self) -> set[int]:
        return {version for stack in self.stacks.values() for version in stack[-2:]}

    def _forget_server(self) -> None:
        self.loaded: set[int] = set()
        self.failed: set[int] = set()
        self.answers: dict[str, int] = {}
        self.opened: Counter[int] = Counter()
        self.really_opened: Counter[int] = Counter()
        self.under_way: list[tuple[ExitStack, Route]] = []

    def _found(self) -> tuple[dict[int, str], dict[str, int], Counter[int]]:
        assert self.live is not None
        state = self.live.state
        states: dict[int, str] = {one.version: one.state for one in state.held}
        return states, dict(state.labels), self.really_opened

    def _open(self, version: int) -> Recommender:
        open_release(self.registry, version)
        self.really_opened[version] += 1
        return cast(Recommender, _Plain(version))  # nothing else of it is asked here


Releases.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestReleases = Releases.TestCase
