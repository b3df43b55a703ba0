from __future__ import annotations

import pytest

from oarlock.reconcile.backoff import RETRY, BackOff


def test_the_kubelets_delays() -> None:
    assert [BackOff().delay(count) for count in range(9)] == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_it_stays_at_the_longest_delay() -> None:
    assert BackOff().delay(10**6) == 300.0


@pytest.mark.parametrize(("ran_for", "counted"), [(0.0, 4), (599.9, 4), (600.0, 0), (1e6, 0)])
def test_ten_minutes_without_an_exit_begin_it_anew(ran_for: float, counted: int) -> None:
    assert BackOff().steps(4, ran_for) == counted


def test_both_ends_can_be_set() -> None:
    quick = BackOff(initial=0.5, most=1.5)
    assert [quick.delay(count) for count in range(5)] == [0, 0.5, 1.0, 1.5, 1.5]


def test_what_is_not_the_containers_fault_is_tried_again_for_ever_each_minute_at_most() -> None:
    assert [RETRY.delay(count) for count in (1, 2, 3, 100)] == [1.0, 2.0, 4.0, 60.0]
