"""What a gateway in process loses to one of four endpoints that is Ready and ill; with a clock moved by hand."""

from __future__ import annotations

import pytest

from benchmarks.outages.in_process import FAULTS, ILL_FROM, ILL_TO, LOADS, Trial, run, within

OVER = ILL_TO - ILL_FROM
ANSWERING = ("dies", "500", "429", "404")


@pytest.mark.parametrize("scraper", [False, True])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fault", ANSWERING)
def test_what_an_endpoint_costs_that_fails_at_once(fault: str, load: str, *, scraper: bool) -> None:
    """Without retries: five requests, or those that it had, and 5 % in the first second; then nothing but probes."""
    outcome = run(Trial(fault, load, scraper=scraper))
    asked = sum(0 <= at < 1 for at, _ in outcome.picks)

    assert max(5, outcome.held) + asked * 0.05 >= within(outcome.failed, -ILL_FROM, 1)
    assert 0.25 >= outcome.share(0, 1)
    assert 0 == outcome.unprobed(1, OVER)
    assert within(outcome.probes, 0, OVER) >= within(outcome.failed, 1, OVER + 10)
    assert 5 >= len(outcome.probes)
    fair = outcome.fair_after()
    assert fair is not None
    assert 10 >= fair


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fault", ANSWERING)
def test_retries_leave_nothing_to_fail(fault: str, load: str) -> None:
    """With two retries, as on the page, not one request fails, and no more than a fair share goes to the endpoint."""
    outcome = run(Trial(fault, load, retries=2))

    assert [] == outcome.failed
    assert 0.25 >= outcome.share(0, OVER)


@pytest.mark.parametrize("scraper", [False, True])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fault", ["hangs", "sticks", "5 x slower"])
def test_what_an_endpoint_draws_that_gives_little_or_nothing(fault: str, load: str, *, scraper: bool) -> None:
    """Nothing fails, the share is never above that of the others, and from seven seconds on nothing hangs there."""
    outcome = run(Trial(fault, load, scraper=scraper))

    assert [] == outcome.failed
    assert 0.25 >= outcome.share(0, OVER)
    assert [] == [at for at in outcome.late if 7 <= at < OVER]
    fair = outcome.fair_after()
    assert fair is not None
    assert 10 >= fair


@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_repeats(fault: str) -> None:
    """The same trial comes to the same, whatever the hashes of objects are."""
    assert run(Trial(fault, "8 clients")) == run(Trial(fault, "8 clients"))


def test_without_detection_the_ill_endpoint_attracts() -> None:
    """What the rules are for: an endpoint that fails at once looks idle, and draws most requests."""
    assert 0.6 < run(Trial("500", "20/s", detection=None)).share(0, OVER)
