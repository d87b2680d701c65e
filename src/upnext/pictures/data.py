"""What the check of the logs found, as pictures: rows a day, and what was refused and why."""

from collections.abc import Mapping
from typing import Any

from upnext.pictures.bars import Bar, bar_picture
from upnext.pictures.numbers import minute, percent, short
from upnext.pictures.picture import Picture
from upnext.pictures.series import Axis, Series
from upnext.pictures.xy import xy_picture


def volume_pictures(data: Mapping[str, Any]) -> list[Picture]:
    """Accepted rows by day of each table that tells them; older releases do not."""
    return [
        xy_picture(
            f"{name} by day",
            _about(table),
            x=Axis(name="day, UTC", kind="time"),
            y=Axis(name="rows", is_whole=True),
            series=[
                Series(
                    name="rows",
                    x=[day["day_ms"] for day in table["per_day"]],
                    y=[day.get("num_rows") for day in table["per_day"]],
                    style="columns",
                )
            ],
        )
        for name, table in (data.get("tables") or {}).items()
        if table.get("per_day")
    ]


def quarantine_pictures(data: Mapping[str, Any]) -> list[Picture]:
    """Refused rows by reason, of each table that has any; most first."""
    return [
        bar_picture(
            f"{name} in quarantine",
            _about(table),
            bars=[
                Bar(
                    name=reason,
                    value=num,
                    note=percent(num / table["num_read"]) if num and table.get("num_read") else "",
                    tone="bad",
                )
                for reason, num in sorted(
                    table["quarantined"].items(), key=lambda one: -(one[1] or 0)
                )
            ],
            quantity="rows",
        )
        for name, table in (data.get("tables") or {}).items()
        if table.get("quarantined")
    ]


def _about(table: Mapping[str, Any]) -> str:
    num_read, num_accepted = table.get("num_read"), table.get("num_accepted")
    window = ""
    if table.get("first_ms") is not None:
        window = f", {minute(table['first_ms'])} to {minute(table.get('last_ms'))} UTC"
    return f"{short(num_accepted)} of {short(num_read)} rows accepted{window}."
