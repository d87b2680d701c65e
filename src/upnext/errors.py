"""What can go wrong, said so that the reader can mend it: where, what was expected, what came."""

from functools import partial
from typing import Self


class UpnextError(Exception):
    """An error that tells where it happened, what was expected, what came, and a way out.

    >>> print(DataError("logs/a.csv, row 3, watch_time_s", expected="a number from 0 to 86400",
    ...                 got="-3.0", hint="some players log a seek as a negative watch."))
    logs/a.csv, row 3, watch_time_s: expected a number from 0 to 86400, got -3.0.
    Hint: some players log a seek as a negative watch.
    """

    def __init__(self, where: str, *, expected: str, got: str, hint: str = "") -> None:
        self.where = where
        self.expected = expected
        self.got = got
        self.hint = hint
        super().__init__(where, expected, got, hint)

    def __str__(self) -> str:
        text = f"{self.where}: expected {self.expected}, got {self.got}."
        return f"{text}\nHint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[partial[Self], tuple[str]]:
        """So that an error reaches another process as it was raised."""
        told = partial(type(self), expected=self.expected, got=self.got, hint=self.hint)
        return told, (self.where,)


class DataError(UpnextError):
    """Logs or tables that cannot be used as they are."""


class ConfigError(UpnextError):
    """A setting that is unknown, of the wrong type or out of range."""


class ReleaseError(UpnextError):
    """A release or label that is missing, damaged or cannot be moved."""


class RequestError(UpnextError):
    """A request for recommendations that cannot be understood."""


class StoreError(UpnextError):
    """The live store cannot take or give events."""
