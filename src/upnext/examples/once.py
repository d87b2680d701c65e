"""Values that are worked out when they are first asked for, by whichever thread asks."""

from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class once(cached_property[T]):  # noqa: N801 -- it stands where `property` does
    """`cached_property` without its lock, as Python has it from 3.12 on.

    Before that, one lock serves all objects of a class: while one thread works out a value of one
    object, such as the first request of a release that is being loaded, every other thread waits
    with its own. Two threads that ask one object at the same time may both work it out.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Is not asked again: what it writes into the object goes before it."""
        if instance is None:
            return self
        assert self.attrname is not None
        value = instance.__dict__[self.attrname] = self.func(instance)
        return value
