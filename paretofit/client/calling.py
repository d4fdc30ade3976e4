"""Decorators that make one implementation serve the synchronous and the asynchronous client.

Client classes are generic in their transport, and their methods are decorated coroutines. A `SyncTransport` never
suspends, so a call runs the coroutine to completion and returns its result. With an `AsyncTransport`, a call returns
the coroutine, to be awaited. Type checkers see the right signature for each.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, overload

from typing_extensions import TypeVar

from paretofit.client.transport import Transport
from paretofit.client.transports import AsyncTransport, SyncTransport, complete, iterate

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Transport, default=SyncTransport)
"""The transport of a client."""


class HasTransport(ABC, Generic[M]):
    """An object with a transport to a service."""

    __slots__ = ()

    @abstractmethod
    def transport(self) -> M:
        """The transport to the service."""


class method(Generic[P, R]):  # noqa: N801  # used as a decorator, like `property`
    """A method that blocks on `Client` and is awaited on `AsyncClient`.

    Called on the class, with the instance as first argument, it returns the coroutine, so methods can call each other.
    """

    def __init__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, instance: HasTransport[Any], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self._function(instance, *args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: HasTransport[SyncTransport], owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: HasTransport[AsyncTransport], owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, instance: HasTransport[Any] | None, owner: type) -> Any:
        if instance is None:
            return self
        return _bound(self._function, instance, complete)


class listing(Generic[P, R]):  # noqa: N801
    """A method that yields items: iterated over with `for` on `Client` and `async for` on `AsyncClient`."""

    def __init__(self, function: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, instance: HasTransport[Any], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        return self._function(instance, *args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: HasTransport[SyncTransport], owner: type) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, instance: HasTransport[AsyncTransport], owner: type) -> Callable[P, AsyncIterator[R]]: ...
    def __get__(self, instance: HasTransport[Any] | None, owner: type) -> Any:
        if instance is None:
            return self
        return _bound(self._function, instance, iterate)


def _bound(function: Callable[..., Any], instance: HasTransport[Any], run: Callable[[Any], Any]) -> Callable[..., Any]:
    suspends = instance.transport().suspends

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        coroutine = function(instance, *args, **kwargs)
        return coroutine if suspends else run(coroutine)

    return call
