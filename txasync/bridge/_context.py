"""Context variables, for plain callbacks."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    _P = ParamSpec("_P")

__all__ = ["with_context"]

_T = TypeVar("_T")


def with_context(callback: Callable[_P, _T]) -> Callable[_P, _T]:
    """
    Return *callback* bound to the context variables of here and now.

    For ``deferred.addCallback(with_context(f))`` and ``reactor.callLater(1, with_context(f))``, which otherwise run
    their callbacks in the context of whoever fires them. Each call runs in the same copy of the present context, as
    those of one asyncio handle do.

    Args:
        callback: What is to be called.

    Raises:
        RuntimeError: By the function that is returned, if it is called while it runs.

    Context:
        Any thread.

    Source:
        PEP 567, "contextvars.Context", ``Context.run()``.
    """
    context = contextvars.copy_context()

    @functools.wraps(callback)
    def in_context(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return context.run(callback, *args, **kwargs)

    return in_context
