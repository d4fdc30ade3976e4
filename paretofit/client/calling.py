"""One implementation, two manners of calling it.

What speaks to a service is generic in its transport, and its methods are coroutines under a decorator. On a
`SyncTransport` transport nothing ever suspends, so a call runs its coroutine to the end and returns the result; on a
`AsyncTransport` one a call gives the coroutine, to be awaited. Type checkers see each with its own signature.
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
"""How a service is spoken to."""


class HasTransport(ABC, Generic[M]):
    """Speaks to a service over a transport."""

    __slots__ = ()

    @abstractmethod
    def transport(self) -> M:
        """The connections to the service."""


class method(Generic[P, R]):  # noqa: N801  # reads as the decorators of the language do
    """A method that is called on a client, or awaited on an asynchronous one. Called on the class, with the instance
    before its arguments, it gives the coroutine: so one method uses another."""

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
    """A method whose items arrive one by one: iterated over on a client, by `async for` on an asynchronous one."""

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
        started = function(instance, *args, **kwargs)
        return started if suspends else run(started)

    return call
