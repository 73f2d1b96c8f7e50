"""Things made ahead are those that would have been made on the way, in order, and mistakes come at their turn."""

import threading

import pytest

from corella.ahead import ahead


def test_the_same_in_order_with_a_state_of_its_own() -> None:
    seen: list[int] = []

    def make(part: int) -> tuple[int, ...]:
        seen.append(part)
        return tuple(seen)

    assert list(ahead(make, range(50))) == [tuple(range(n + 1)) for n in range(50)]
    assert list(ahead(make, [])) == []


def test_no_more_is_made_ahead_than_asked_for() -> None:
    made: list[int] = []
    found = ahead(made.append, range(100), most=3)
    for used in range(1, 20):
        next(found)
        assert len(made) <= used + 3


def test_one_thread_makes_them_all_and_ends_with_the_reader() -> None:
    threads: set[threading.Thread] = set()
    found = ahead(lambda part: threads.add(threading.current_thread()), range(100))
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_mistake_is_raised_at_its_turn() -> None:
    found = ahead(lambda part: 1 // part, [1, 1, 0, 1])
    assert [next(found), next(found)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
