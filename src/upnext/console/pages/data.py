"""Data: what the check of a release's logs found, table by table."""

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json, escaped
from upnext.console.rendering import render, server_of
from upnext.console.standing import chosen_version
from upnext.pictures.data import quarantine_pictures, volume_pictures

DUPLICATE = "duplicate"


async def show(request: Request) -> Response:
    """GET /data?version=N."""
    server = server_of(request)
    told = await server.look("releases")
    version = chosen_version(request, told)
    data = None if version is None else await server.look(f"data/{escaped(version)}")
    tables = data["tables"] if data else {}
    return render(
        request,
        "data.html",
        title="Data",
        versions=[one["version"] for one in told["releases"]][::-1],
        version=version,
        data=data,
        tables=[_table(name, table) for name, table in tables.items()],
        volumes=volume_pictures(data or {}),
        quarantines=quarantine_pictures(data or {}),
    )


def _table(name: str, table: Json) -> Json:
    """One table's row, and its refused rows by reason, the most first, each with examples."""
    quarantined, examples = table["quarantined"], table.get("examples") or ()
    num_duplicates = quarantined.get(DUPLICATE, 0)
    return {
        **table,
        "name": name,
        "num_duplicates": num_duplicates,
        "num_refused": sum(quarantined.values()) - num_duplicates,
        "reasons": [
            {
                "reason": reason,
                "num": num,
                "share": num / table["num_read"] if table["num_read"] else None,
                "examples": [one for one in examples if one["reason"] == reason],
            }
            for reason, num in sorted(quarantined.items(), key=lambda one: -one[1])
        ],
    }
