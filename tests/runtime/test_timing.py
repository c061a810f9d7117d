from __future__ import annotations

import pytest

from dynadfq.runtime import timing
from dynadfq.runtime.timing import interleaved


def test_functions_take_turns_in_changing_order_and_the_first_rounds_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    now = 0.0

    def work(name: str, seconds: float) -> None:
        nonlocal now
        calls.append(name)
        now += 100 if len(calls) <= 2 else seconds + 0.1 * (len(calls) // 2)

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    found = interleaved(
        {"a": lambda: work("a", 1), "b": lambda: work("b", 5)}, repeats=5, warm_up=1
    )
    rounds = [calls[i : i + 2] for i in range(0, 12, 2)]
    assert (
        all(sorted(one) == ["a", "b"] for one in rounds)
        and ["a", "b"] in rounds
        and ["b", "a"] in rounds
    )
    assert found["a"].repeats == 5 and found["a"].best == pytest.approx(1.1)
    assert (
        found["a"].best
        < found["a"].lower_quartile
        < found["a"].median
        < found["a"].upper_quartile
        < 2
    )
    assert found["b"].median - found["a"].median == pytest.approx(4.1, abs=0.11)
