from __future__ import annotations

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation import PROFILES, parse_profile
from inferencepool.plugins import LoadAwareScorer, NoHitLruScorer, PrefixCacheScorer, QueueScorer, RandomPicker


class TestNames:
    @pytest.mark.parametrize("name", list(PROFILES))
    def test_every_named_profile_is_made_anew_each_time(self, name: str) -> None:
        """A name gives what makes its profile, which is another one each time, since pickers hold state."""
        make = parse_profile(f" {name} ")

        assert make is PROFILES[name]
        assert make() is not make()


class TestSums:
    def test_strategies_come_with_weights_and_parameters(self) -> None:
        """Scorers have the weight before them, or 1; parameters are those of configuration documents."""
        profile = parse_profile("2*queue-scorer + 0.5 * load-aware-scorer(threshold=64)+lora-affinity-scorer")()

        assert [("queue-scorer", 2.0), ("load-aware-scorer", 0.5), ("lora-affinity-scorer", 1.0)] == [
            (scorer.name, scorer.weight) for scorer in profile.scorers
        ]
        assert isinstance(profile.scorers[0].scorer, QueueScorer)
        assert LoadAwareScorer(threshold=64) == profile.scorers[1].scorer

    def test_filters_and_a_picker_may_be_among_them(self) -> None:
        """Filters are asked in their order; a picker, with the number of fallbacks, takes the place of max-score."""
        profile = parse_profile(
            'by-label(label="a", validValues=["x, y"]) + decode-filter + random-picker(maxNumOfEndpoints=3)'
        )()

        assert ["by-label", "decode-filter"] == [item.name for item in profile.filters]
        assert isinstance(profile.picker, RandomPicker)
        assert 3 == profile.max_num_of_endpoints

    def test_words_need_no_quotes(self) -> None:
        """A value that is no JSON is taken as text."""
        quoted, bare = (
            parse_profile(f"consistent-hash-picker(header={value}, loadFactor=1.5)")()
            for value in ('"x-user"', "x-user")
        )

        assert repr(quoted.picker) == repr(bare.picker)

    def test_producers_come_first_and_are_shared(self) -> None:
        """A producer that is given is the one that strategies use, wherever it stands; one that is not is made."""
        given, made = (
            [scorer.scorer for scorer in parse_profile(f"prefix-cache-scorer + no-hit-lru-scorer{more}")().scorers]
            for more in (" + approx-prefix-cache-producer(blockSizeTokens=32)", "")
        )

        for (prefix, cold), size in ((given, 32), (made, 16)):
            assert isinstance(prefix, PrefixCacheScorer)
            assert isinstance(cold, NoHitLruScorer)
            assert prefix.producer is cold.producer
            assert size == prefix.producer.block_size_tokens

    def test_what_is_a_scorer_and_a_filter_is_both(self) -> None:
        """A strategy that scores and filters does both, under one name."""
        profile = parse_profile("2*context-length-aware(enableFiltering=true)")()

        assert ["context-length-aware"] == [item.name for item in profile.filters]
        assert [("context-length-aware", 2.0)] == [(item.name, item.weight) for item in profile.scorers]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "at its end: the name of a strategy is missing"),
            ("queue-scorer +", "at its end: the name of a strategy is missing"),
            ("2 queue-scorer", "at 'queue-scorer': '*' is missing"),
            ("queue-scorer queue-scorer", "at 'queue-scorer': '+' is missing"),
            ("-1*queue-scorer", "at '-1*queue-scorer': the name of a strategy is missing"),
            ("load-aware-scorer(threshold=[64)", "at '[64)': a value is missing"),
            ("2*random-picker", "random-picker: is no scorer, so it has no weight"),
            ("2*decode-filter", "decode-filter: is no scorer, so it has no weight"),
            ("random-picker+round-robin-picker", "round-robin-picker: is one picker too many, allowed is 1"),
            (
                "kv-cache-utilization-scorer(a=1)",
                "kv-cache-utilization-scorer: a: 1 is for a parameter that it does not have, it takes none",
            ),
            (
                "load-aware-scorer(threshold=x)",
                "load-aware-scorer: threshold: 'x' is not a whole number from 1 to 2147483647",
            ),
        ],
    )
    def test_a_wrong_one_is_refused_with_what_is_wrong(self, text: str, message: str) -> None:
        """A text that is no profile is refused before anything runs; the error shows it and what is wrong."""
        with pytest.raises(ConfigurationError) as caught:
            parse_profile(text)

        assert f"profile {text!r}: {message}" == str(caught.value)

    def test_an_unknown_name_is_refused_with_all_that_are_known(self) -> None:
        """A name that is neither a profile nor a strategy is refused; the error lists both."""
        with pytest.raises(ConfigurationError) as caught:
            parse_profile("fastest")

        assert "'fastest' is no known strategy, allowed are " in str(caught.value)
        assert str(caught.value).endswith(", ".join(PROFILES))

    def test_weights_that_are_too_great_are_refused(self) -> None:
        """The limit of the weights of a profile holds."""
        with pytest.raises(ConfigurationError, match="the weights sum up to"):
            parse_profile("999999*queue-scorer")
