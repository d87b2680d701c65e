"""Values that are worked out when they are first asked for, by whichever thread asks."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 -- it stands where `property` does
    """`functools.cached_property` without its lock, as Python has it from 3.12 on.

    Before that, one lock serves all objects of a class: while one thread works out a value of one
    object, such as in the first request of a release that is being loaded, every other thread waits
    with its own. Two threads that ask one object at the same time may both work it out.
    """

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        self._work_out = work_out
        self._name = work_out.__name__
        self.__doc__ = work_out.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Self | T:
        """Called the first time only: what it leaves in the object is found before it."""
        if instance is None:
            return self
        value = self._work_out(instance)
        vars(instance)[self._name] = value
        return value
