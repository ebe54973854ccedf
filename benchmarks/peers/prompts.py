"""
The prompts, the same for every peer.

8 KiB of words each: a system prompt of 2 KiB that all share, then 6 KiB that no other has from the first word on. Words
and not random letters, because some peers count tokens.
"""

from __future__ import annotations

from random import Random

__all__ = ["QUESTION", "SYSTEM", "prompt"]

# What a pick by load alone is asked for.
QUESTION = "What is the capital of France, and how many people live there?"

_TEXT = """
a about after all also and answer any are as ask at back be because but by call can change city code come could data
day do each early end even example fact few find first for from get give go good group have he help her here high how
if important in into is it just keep know large last late let like line list little long look make many may mean model
more most name near need never new next no not note number of off on one only open or order other our out over page
part people place plan point problem public question read reason right say school see set she short show side small so
some state still stop such system take tell than that the their them then there these they thing think this those time
to too try two under up use user very want was water way we well what when where which while who why will with word
work world would write year you your
"""
_WORDS = _TEXT.split()


def _text(rng: Random, length: int) -> str:
    return " ".join(rng.choices(_WORDS, k=length))[:length]


SYSTEM = _text(Random(0), 2048)
# The tails are put together from longer pieces: choosing every word takes longer than most picks.
_PIECES = [_text(Random(seed), 128) for seed in range(1, 1001)]


def prompt(number: int) -> str:
    """Give the prompt of that *number*: 8,192 characters of one byte each."""
    return f"{SYSTEM}{number:016d}{''.join(Random(number).choices(_PIECES, k=48))}"[:8192]
