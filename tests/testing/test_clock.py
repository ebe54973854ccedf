from __future__ import annotations

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.testing import ManualClock


class TestManualClock:
    def test_stands_still(self) -> None:
        """Nobody moves it, so it tells the same time again."""
        clock = ManualClock(5.0)

        assert (5.0, 5.0) == (clock(), clock())

    def test_advances(self) -> None:
        """It moves by as much as it is told to, also by nothing."""
        clock = ManualClock()
        clock.advance(1.5)
        clock.advance(0)
        clock.advance(2)

        assert 3.5 == clock()
        assert "<ManualClock at 3.5 s>" == repr(clock)

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
    def test_refuses_what_is_no_duration(self, seconds: float) -> None:
        """Time does not run backwards, nor to the end of all days."""
        clock = ManualClock()

        with pytest.raises(ConfigurationError, match=r"manual clock: advance: .* is not a finite number"):
            clock.advance(seconds)
        assert 0.0 == clock()
