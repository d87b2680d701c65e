"""Loops over arrays, compiled: for what a request does often with few numbers.

A call of NumPy costs a microsecond before it looks at a number, and a request is a few hundred rows
that dozens of questions are asked of. A loop that asks them all while it passes costs less, says
plainly what happens to one row, and does not hold the interpreter up, so that threads run it side
by side.

A function is compiled for the types that it is declared with and for no others, when its module is
imported; the machine code is kept beside the module, or where `NUMBA_CACHE_DIR` says, so that this
takes half a minute once and milliseconds ever after. Kept code is run as it is found: only who may
change this program may write there. Nothing is compiled while anybody waits.

>>> import numpy as np
>>> @compiled(ROWS, table(FLOATS))
... def sums(rows, values):
...     total = np.zeros(values.shape[1], np.float32)
...     for row in rows:
...         total += values[row]
...     return total
>>> sums(np.array([0, 2, 2], np.int32), np.arange(6, dtype=np.float32).reshape(3, 2))
array([ 8., 11.], dtype=float32)

Two things hold of all that is compiled, and a test asks for the first. It uses functions and
constants of its own file alone, and of the ground: machine code is made anew when that file
changes, not when others do. Arrays lie as C has them, and are not written to but by a `part`; what
comes out is allocated inside.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core.caching import FunctionCache
from numba.core.errors import NumbaError

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Mapping[str, Any] = {"nogil": True, "error_model": "numpy"}


def array(element: Any, num_axes: int = 1) -> Any:
    """The type of arrays that are read: those that may be written to are taken, too."""
    return types.Array(element, num_axes, "C", readonly=True)


def table(of: Any) -> Any:
    """Two axes instead of one."""
    return array(of.dtype, 2)


def cube(of: Any) -> Any:
    """Three axes instead of one."""
    return array(of.dtype, 3)


ROWS, INDICES, FLOATS = array(types.int32), array(types.int64), array(types.float32)
"""Rows of a vocabulary; indices, times and whatever else is int64; single precision."""
DOUBLES, FLAGS = array(types.float64), array(types.boolean)
INT, FLOAT, DOUBLE, FLAG = types.int64, types.float32, types.float64, types.boolean


def compiled(*arguments: Any) -> Callable[[F], F]:
    """Compiles a function for arguments of these types, in the order of its own.

    Floating point is IEEE's, in the order that is written, and division by zero gives what NumPy's
    gives. With `NUMBA_DISABLE_JIT=1` in the environment the function stays as it is, which a
    debugger can step through.
    """

    def compile_it(function: F) -> F:
        try:
            made = numba.njit([arguments], cache=True, **OPTIONS)(function)
        except NumbaError:
            raise
        except Exception:  # it cannot be kept anywhere, or what is kept was cut short, say by power
            made = numba.njit([arguments], **OPTIONS)(function)
            with contextlib.suppress(Exception):
                FunctionCache(function).flush()  # type: ignore[no-untyped-call]
        if made.stats.cache_misses:
            _say_why_it_takes_long()
        return cast(F, made)

    return compile_it


@cache
def _say_why_it_takes_long() -> None:
    """Once, to whoever sits before a terminal where nothing seems to happen."""
    if sys.stderr.isatty():
        print("compiling loops, which takes half a minute the first time", file=sys.stderr)


def part(function: F) -> F:
    """A part of what is compiled, which nobody else calls: compiled with it, and may write."""
    return cast(F, numba.njit(**OPTIONS)(function))
