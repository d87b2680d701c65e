"""All that is known of one release on one page: a file that needs no server, script or network.

It is drawn from plain values, those that `/insight/v1/releases/{version}` and
`/insight/v1/training/{training}` answer with. The page forbids itself everything but its own style.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from upnext.pictures.calibration import calibration_pictures
from upnext.pictures.data import quarantine_pictures, volume_pictures
from upnext.pictures.evaluation import (
    difference_pictures,
    funnel_pictures,
    importance_pictures,
    ranking_pictures,
    retrieval_pictures,
    slice_pictures,
)
from upnext.pictures.facts import (
    Fact,
    config_table,
    data_tables,
    file_table,
    headline,
    release_facts,
    test_facts,
)
from upnext.pictures.picture import Picture, Table, as_html, scrolled
from upnext.pictures.policies import off_policy_pictures, policy_pictures
from upnext.pictures.training import curve_pictures

Told = Mapping[str, Any]
STYLES = ("pictures.css", "report.css")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page; each of `rows` is a group of pictures that belong together."""

    name: str
    title: str
    lead: str = ""
    facts: Sequence[Fact] = ()
    rows: Sequence[Sequence[Picture]] = ()
    tables: Sequence[tuple[str, Table]] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (any(self.rows) or self.tables or self.facts)


def release_page(release: Told, training: Told | None = None) -> str:
    """The page as HTML.

    Args:
        release: all about it, `evaluation` being None where it was not evaluated.
        training: the run that it comes from, if its curves are there.
    """
    style = _style()
    report = release.get("evaluation") or {}
    sections = [*_evaluation(report), _training(training), _data(release), _origin(release)]
    return _ENVIRONMENT.get_template("report.html").render(
        release=release,
        facts=release_facts(release),
        headline=headline(report),
        sections=[section for section in sections if not section.is_empty],
        notes=report.get("notes") or (),
        has_evaluation=bool(report),
        style=Markup(style),
        policy=_policy(style),
    )


def _evaluation(report: Told) -> list[Section]:
    if not report:
        return []
    return [
        Section(
            name="test",
            title="What was measured",
            lead=report.get("protocol", ""),
            facts=test_facts(report),
        ),
        Section(
            name="retrieval",
            title="Retrieval",
            lead="Which items does a user watch next? Each system ranks the whole catalogue.",
            rows=[[*difference_pictures(report), *retrieval_pictures(report)]],
        ),
        Section(
            name="funnel",
            title="From catalogue to page",
            lead="Where targets get lost, and what whole pages are worth.",
            rows=[[*funnel_pictures(report), *policy_pictures(report)]],
        ),
        Section(
            name="ranking",
            title="Ranking",
            lead="Impressions that were really shown, in the order of each system.",
            rows=[[*ranking_pictures(report), *importance_pictures(report)]],
        ),
        Section(
            name="calibration",
            title="Are expected seconds the seconds that come?",
            rows=[calibration_pictures(report)],
        ),
        Section(
            name="slices",
            title="Ranking by slice",
            lead="The ranker on parts of what was shown, pairs and pages within each.",
            rows=[slice_pictures(report)],
        ),
        Section(
            name="off-policy",
            title="Off-policy",
            lead="What other choices for a slot would have brought, from logged propensities.",
            rows=[off_policy_pictures(report)],
        ),
    ]


def _training(training: Told | None) -> Section:
    curves = (training or {}).get("curves") or ()
    lead = "What each part of the run reported while it learned."
    rows = [curve_pictures(curve) for curve in curves]
    return Section(name="training", title="Training", lead=lead, rows=rows)


def _data(release: Told) -> Section:
    data = (release.get("metadata") or {}).get("data") or {}
    return Section(
        name="data",
        title="Data and quarantine",
        lead="Rows that the check of the logs accepted, and those that it refused and why.",
        rows=[volume_pictures(data), quarantine_pictures(data)],
        tables=data_tables(data),
    )


def _origin(release: Told) -> Section:
    tables = {"Settings": config_table(release.get("config") or {}), "Files": file_table(release)}
    return Section(
        name="made-of",
        title="Settings and files",
        tables=[(name, table) for name, table in tables.items() if table.rows],
    )


def _style() -> str:
    folder = _ENVIRONMENT.loader
    assert folder is not None
    return "\n".join(folder.get_source(_ENVIRONMENT, name)[0] for name in STYLES)


def _policy(style: str) -> str:
    """Nothing may be loaded, run or sent; this one style may be applied."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("upnext.pictures", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": as_html, "table": scrolled}
    return environment


_ENVIRONMENT = _environment()
