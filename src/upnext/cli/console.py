"""The verb that opens the console."""

from pathlib import Path
from typing import Annotated

import typer

from upnext.cli.terminal import say


def console(
    server: Annotated[
        str, typer.Option(metavar="URL", help="Address that a server answers on.")
    ] = "http://127.0.0.1:8080",
    managed: Annotated[
        str, typer.Option(metavar="URL", help="Address that it is managed on: its --admin-port.")
    ] = "http://127.0.0.1:8081",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8090,
    allow_remote: Annotated[bool, typer.Option(help="Listen beyond this machine.")] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name it is called by beyond this machine; repeatable."),
    ] = None,
    read_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Token that the server wants to be read.")
    ] = None,
) -> None:
    """Show a running server in the browser: what it recommends and why, and how well.

    It is a client of the server, in a process of its own. What changes something asks for a token.
    """
    from upnext.console.running import run_console

    run_console(
        server_url=server,
        managed_url=managed,
        host=host,
        port=port,
        allow_remote=allow_remote,
        allowed_hosts=allowed_host or (),
        read_token_file=read_token_file,
        say=say,
    )
