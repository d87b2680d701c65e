"""What the protocols of other servers ask: three models, whose rows become what upnext is asked.

TensorFlow Serving and the Open Inference Protocol speak of models with named inputs and outputs.
Here they are named once, and there is one way from a row of plain values to `Asked`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from upnext.errors import RequestError
from upnext.events.event import IdField
from upnext.serving.answering import Answering
from upnext.serving.asked import Asked
from upnext.serving.decoding import convert
from upnext.serving.releases import NotServedError
from upnext.serving.security import RefusedError
from upnext.serving.traffic import STABLE
from upnext.serving.wire import MAX_BATCH, RequestBody, asked_of

Datatype = Literal["BYTES", "INT64", "FP32", "BOOL"]
Row = Mapping[str, object]
"""One request: plain values by the name of their input."""

NO_SECONDS = -1.0
"""The expected watch time where a release has no ranking; tensors have no null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named input or output; its first axis is the batch, −1 is any length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How the rows of one call want to be served; see `Asked`."""

    label: str | None = None
    version: int | None = None
    deadline_ms: float | None = None
    is_logged: bool = True


def wanted_by_path(path: Mapping[str, str]) -> Wanted:
    """The release that a URL names. Raises RequestError: its version is no number."""
    return convert(
        {name: path[name] for name in ("label", "version") if name in path},
        Wanted,
        where="path",
        are_texts=True,
    )


def held_versions(answering: Answering) -> Mapping[int, tuple[str, str]]:
    """How every version fares: loading, ready, draining or failed, and of what it failed."""
    return {one.version: (one.state, one.cause) for one in answering.live.state.held}


def version_wanted(answering: Answering, wanted: Wanted) -> int:
    """The version that answers; without a name, the one that is stable.

    Raises: NotServedError: there is no such release.
    """
    labels = answering.live.state.labels
    label = wanted.label or STABLE
    version = labels.get(label) if wanted.version is None else wanted.version
    if version is None or version not in answering.live.state.loaded:
        where, got = ("label", label) if wanted.version is None else ("version", wanted.version)
        raise NotServedError(where, expected="a loaded release", got=repr(got))
    return version


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Outputs by name, one element a row, and the release; None: not all rows had the same."""

    outputs: Mapping[str, Sequence[Any]]
    release: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What it takes, what it answers, and how."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    _answer: Callable[[Answering, Sequence[Row], str, Wanted], Awaitable[Predicted]]

    async def predict(
        self, answering: Answering, rows: Sequence[Row], wanted: Wanted, *, where: str
    ) -> Predicted:
        """Answers some rows together; `where` names the rows in errors.

        Raises: RequestError: a row has an unknown input or a wrong value, or there are too many.
            And what `Answering` raises.
        """
        if not 1 <= len(rows) <= MAX_BATCH:
            raise RequestError(where, expected=f"1 to {MAX_BATCH} rows", got=str(len(rows)))
        names = {tensor.name for tensor in self.inputs}
        for place, row in enumerate(rows):
            if unknown := row.keys() - names:
                raise RequestError(
                    f"{where}[{place}]",
                    expected=f"inputs of {self.name}: {', '.join(sorted(names))}",
                    got=f"the unknown input {min(unknown)[:100]!r}",
                )
        return await self._answer(answering, rows, where, wanted)


def model_named(name: str) -> Model:
    """A model. Raises RefusedError: 404, there is none of that name."""
    if name not in MODELS:
        raise RefusedError(404, "model", expected=f"one of {', '.join(MODELS)}", got=repr(name))
    return MODELS[name]


def rows_of(columns: Mapping[str, object], *, where: str) -> Sequence[Row]:
    """Rows out of columns; a value that is no list is every row's.

    Raises: RequestError: columns of different lengths.
    """
    lengths = {name: len(column) for name, column in columns.items() if isinstance(column, list)}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{length} in {name[:100]}" for name, length in lengths.items())
        raise RequestError(where, expected="as many rows in each input", got=got)
    num_rows = next(iter(lengths.values()), 1)
    if num_rows > MAX_BATCH:
        raise RequestError(where, expected=f"1 to {MAX_BATCH} rows", got=str(num_rows))
    return [
        {
            name: column[place] if isinstance(column, list) else column
            for name, column in columns.items()
        }
        for place in range(num_rows)
    ]


class _ItemsBody(msgspec.Struct, frozen=True, kw_only=True):
    item_ids: Annotated[list[IdField], Meta(min_length=1, max_length=1_000)]


def _asked(row: Row, where: str, wanted: Wanted) -> Asked:
    values = {name: value for name, value in row.items() if name != "item_ids"}
    history = values.get("history")
    if isinstance(history, list):
        values["history"] = [{"item_id": item_id} for item_id in history]
    body = convert(values, RequestBody, where=where)
    how = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
    return asked_of(msgspec.structs.replace(body, **how))


async def _recommend(
    answering: Answering, rows: Sequence[Row], where: str, wanted: Wanted
) -> Predicted:
    asked = [_asked(row, f"{where}[{place}]", wanted) for place, row in enumerate(rows)]
    answers = await asyncio.gather(*map(answering.recommend, asked))
    pages = [one.recommendations.items for one in answers]
    outputs: dict[str, Sequence[Any]] = {
        "item_ids": [[item.item_id for item in page] for page in pages],
        "expected_watch_time_s": [
            [_seconds(item.expected_watch_time_s) for item in page] for page in pages
        ],
        "retrieval_scores": [[item.retrieval_score for item in page] for page in pages],
        "request_ids": [one.request_id for one in answers],
    }
    return Predicted(
        outputs=outputs, release=_the_one(one.recommendations.release for one in answers)
    )


async def _rank(answering: Answering, rows: Sequence[Row], where: str, wanted: Wanted) -> Predicted:
    places = [f"{where}[{place}]" for place in range(len(rows))]
    asked = [_asked(row, place, wanted) for row, place in zip(rows, places, strict=True)]
    items = [
        convert(dict(row), _ItemsBody, where=place).item_ids
        for row, place in zip(rows, places, strict=True)
    ]
    answers = await asyncio.gather(*map(answering.rank, asked, items))
    return Predicted(
        outputs={"expected_watch_time_s": [seconds for seconds, _ in answers]},
        release=_the_one(release for _, release in answers),
    )


async def _user_vector(
    answering: Answering, rows: Sequence[Row], where: str, wanted: Wanted
) -> Predicted:
    asked = [_asked(row, f"{where}[{place}]", wanted) for place, row in enumerate(rows)]
    vectors, release = await answering.user_vectors(asked)
    return Predicted(outputs={"user_vector": vectors}, release=release)


def _seconds(expected_watch_time_s: float | None) -> float:
    return NO_SECONDS if expected_watch_time_s is None else expected_watch_time_s


def _the_one(releases: Iterable[str]) -> str | None:
    distinct = set(releases)
    return distinct.pop() if len(distinct) == 1 else None


_WHO = (
    Tensor(name="user_id", datatype="BYTES", shape=(-1,)),
    Tensor(name="history", datatype="BYTES", shape=(-1, -1)),
    Tensor(name="searches", datatype="BYTES", shape=(-1, -1)),
    Tensor(name="at_ms", datatype="INT64", shape=(-1,)),
)
_SECONDS = Tensor(name="expected_watch_time_s", datatype="FP32", shape=(-1, -1))

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="recommend",
            inputs=(
                *_WHO,
                Tensor(name="k", datatype="INT64", shape=(-1,)),
                Tensor(name="exclude_watched", datatype="BOOL", shape=(-1,)),
            ),
            outputs=(
                Tensor(name="item_ids", datatype="BYTES", shape=(-1, -1)),
                _SECONDS,
                Tensor(name="retrieval_scores", datatype="FP32", shape=(-1, -1)),
                Tensor(name="request_ids", datatype="BYTES", shape=(-1,)),
            ),
            _answer=_recommend,
        ),
        Model(
            name="rank",
            inputs=(*_WHO, Tensor(name="item_ids", datatype="BYTES", shape=(-1, -1))),
            outputs=(_SECONDS,),
            _answer=_rank,
        ),
        Model(
            name="user_vector",
            inputs=_WHO,
            outputs=(Tensor(name="user_vector", datatype="FP32", shape=(-1, -1)),),
            _answer=_user_vector,
        ),
    )
}
"""By name. Ids are texts here; integers are taken as well, and a text finds an integer id."""
