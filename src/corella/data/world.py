"""Which world codes belong to: the whole dataset, or the small world of one request."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, eq=False)
class World:
    """What user and item codes of samples mean. Every request has a world of its own.

    >>> World("a request") == World("a request"), WHOLE == WHOLE
    (False, True)
    """

    name: str


WHOLE = World("the whole dataset")


class WrongWorldError(ValueError):
    """Samples of one world were given to a model's view of another one."""


class _OfAWorld(Protocol):
    @property
    def world(self) -> World: ...


def check_world(samples: _OfAWorld, world: World) -> None:
    """Raise `WrongWorldError` for samples of another world: their codes would mean other users and items."""
    if samples.world is not world:
        raise WrongWorldError(f"samples of {samples.world.name} were given to a view of {world.name}")
