"""Times in every form that logs have them in: read rightly, or no time."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.data.times import date_text, read_time, read_times

_DAY = 1_599_955_200.0
"""13 September 2020."""


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([20200913, 20200914], [_DAY, _DAY + 86_400]),
        (["20200913", "20201399", "20200914"], [_DAY, None, _DAY + 86_400]),
        ([202009131247, 202009131248], [_DAY + 46_020, _DAY + 46_080]),
        ([20200913124733], [_DAY + 46_053]),
        ([2020, 2021], [1_577_836_800.0, 1_609_459_200.0]),
        ([1599955200, 1599955201], [_DAY, _DAY + 1]),
        ([1599955200.5], [_DAY + 0.5]),
        ([1599955200000], [_DAY]),
        ([1599955200000000], [_DAY]),
        ([1599955200000000000], [_DAY]),
        (["2020-09-13T02:00:00+02:00", "2020-09-13 00:00", "2020/09/13"], [_DAY] * 3),
        ([0, 1, 2, 9999], [0.0, 1.0, 2.0, 9999.0]),  # steps of a log that has no dates
        (["soon", None, ""], [None] * 3),
    ],
)
def test_what_is_read(values: list[Any], wanted: list[float | None]) -> None:
    assert read_times(pl.Series(values, strict=False)).seconds.to_list() == wanted


@pytest.mark.parametrize("marker", [-1, 0, 9999, 99999999, 9999999999, 99999999999999])
@pytest.mark.parametrize("times", [[1599955200, 1599955300], [20200913, 20200914], [1599955200000, 1599955300000]])
def test_markers_for_unknown_are_no_times(times: list[int], marker: int) -> None:
    found = read_times(pl.Series([*times, marker]))
    assert found.unknown.to_list() == [False, False, True]
    assert found.seconds[2] is None and found.seconds[0] == _DAY


def test_texts_that_say_unknown() -> None:
    found = read_times(pl.Series(["2020-09-13", "0000-00-00 00:00:00", "9999-12-31"]))
    assert found.unknown.to_list() == [False, True, True]


def test_the_log_decides_what_could_be_both() -> None:
    """2000 is a step of a log of steps, and a year beside dates."""
    assert read_time(2000, (0.0, 5000.0)) == 2000.0
    assert read_time(2000, (9e8, 1e9)) == 946_684_800.0
    assert read_time(20200913, (1.5e9, 1.6e9)) == _DAY
    assert read_time(20200913, (0.0, 3e7)) == 20_200_913.0
    assert read_time(-1, (1.5e9, 1.6e9)) is None


@given(st.integers(631_152_000, 2_000_000_000))
def test_one_moment_written_in_any_way(seconds: int) -> None:
    text = date_text(seconds)
    compact = int(text.replace("-", "").replace(":", "").replace(" ", ""))
    for written in (
        seconds,
        seconds * 1000,
        seconds * 10**6,
        seconds * 10**9,
        text,
        text.replace(" ", "T") + "Z",
        compact,
    ):
        assert read_time(written) == pytest.approx(seconds, abs=1e-3)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1e12, 1e12, allow_nan=False) | st.integers(-(10**11), 10**11)
    | st.datetimes(datetime(1960, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat)
    | st.sampled_from([9_999_999_999, 1e8, 20200913, 2020, "2020-09-13T12:47:33+05:30", "2020-02-30T00:00:00Z"])
)  # fmt: skip
def test_one_time_is_read_as_a_column_of_one(value: float | str) -> None:
    near = (1e9, 1.1e9)
    slow = read_times(pl.Series([value], strict=False), near).seconds[0]
    found = read_time(value, near)
    assert (found is None) == (slow is None) and (slow is None or found == pytest.approx(slow, abs=1e-5))
