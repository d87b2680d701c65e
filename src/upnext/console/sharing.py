"""Shares of users by label, as a form has them in percent and a server in parts of 1."""

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from upnext.console.client import Json
from upnext.console.forms import Fields
from upnext.errors import RequestError

ALL = Decimal(100)


def traffic_in(fields: Fields, labels: Iterable[str]) -> Json:
    """What the form asks for, as PUT /admin/v1/traffic takes it.

    Args:
        fields: `share-LABEL` in percent for each label, and `shadow` with `shadow-share`.
        labels: those that the form showed; what takes 0 is left out.

    Raises: RequestError: a field is no percentage, or they do not add up to 100.
    """
    percents = {label: _percent(fields, f"share-{label}") for label in labels}
    total = sum(percents.values())
    if total != ALL:
        hint = "nothing was sent to the server."
        raise RequestError("shares", expected="100 percent together", got=f"{total}", hint=hint)
    shadow = fields.get("shadow") or None
    shares = {label: float(percent / ALL) for label, percent in percents.items()}
    return {
        "split": {label: share for label, share in shares.items() if share},
        "shadow": shadow
        and {"label": shadow, "share": float(_percent(fields, "shadow-share") / ALL)},
    }


def as_percent(share: float | None) -> str:
    """A share as a form shows it, without what floats add.

    >>> as_percent(0.07), as_percent(1.0), as_percent(None)
    ('7', '100', '')
    """
    return "" if share is None else f"{(Decimal(repr(share)) * ALL).normalize():f}"


def shares_of(traffic: Json) -> Json:
    """How shares stand, as PUT /admin/v1/traffic takes it; the gate left out."""
    return {"split": traffic["split"], "shadow": traffic["shadow"]}


def fingerprint(traffic: Json) -> str:
    """Tells one split from another: whether it is still the one that a page showed."""
    return json.dumps(shares_of(traffic), sort_keys=True)


def _percent(fields: Fields, name: str) -> Decimal:
    text = fields.get(name, "").strip() or "0"
    try:
        percent: Decimal | None = Decimal(text)
    except InvalidOperation:
        percent = None
    if percent is None or not percent.is_finite() or not 0 <= percent <= ALL:
        raise RequestError(name, expected="a percentage from 0 to 100", got=repr(text[:100]))
    return percent
