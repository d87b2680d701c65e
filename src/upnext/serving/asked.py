"""What is asked of a server, and what it answers, whichever protocol it came by."""

from dataclasses import dataclass

from upnext.schema import RecommendationRequest, Recommendations


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and how it wants to be served.

    `label` or `version` names the release; without either, traffic decides by the user.
    `deadline_ms`: how long the answer may take; None takes the server's own limit.
    `request_id`: told in the answer and kept with what was served; made up where it is None.
    `is_logged`: whether the page counts as shown to its user, and becomes tomorrow's training data.
    """

    request: RecommendationRequest
    label: str | None = None
    version: int | None = None
    deadline_ms: float | None = None
    request_id: str | None = None
    is_logged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, its release, the label that led there (None: a version was named), and an id."""

    recommendations: Recommendations
    label: str | None
    version: int
    request_id: str
