"""The command line: one verb a public function, a file for the verbs of each topic."""

from upnext.cli.app import app, main

__all__ = ["app", "main"]
