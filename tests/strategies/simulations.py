"""Random prompts that share beginnings, and requests for simulated engines."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from inferencepool.lab.simulation import EngineOptions, EngineRequest, Prompt

__all__ = ["engine_options", "engine_requests", "prompts"]


@st.composite
def prompts(draw: st.DrawFn, *, most: int = 8, longest: int = 24) -> Sequence[Prompt]:
    """Draw a few prompts; many begin with another one of them."""
    made: list[Prompt] = []
    for index in range(draw(st.integers(1, most))):
        parent = draw(st.sampled_from([None, *made]))
        made.append(Prompt(f"part-{index}", draw(st.integers(1, longest)), parent))
    return made


# Times are multiples of a small power of two, so that sums of them are exact in whatever order they are added.
engine_options = st.builds(
    EngineOptions,
    prefill_tokens_per_second=st.sampled_from([64.0, 256.0, 1024.0]),
    decode_tokens_per_second=st.sampled_from([4.0, 16.0]),
    max_running_requests=st.integers(1, 4),
    max_step_tokens=st.integers(4, 24),
    kv_blocks=st.integers(64, 110),
    kv_block_size=st.sampled_from([1, 3, 4]),
    max_adapters=st.integers(1, 2),
    adapter_load_seconds=st.sampled_from([0.0, 0.25]),
)


@st.composite
def engine_requests(draw: st.DrawFn, *, most: int = 12) -> Sequence[tuple[float, EngineRequest]]:
    """Draw requests with the times at which they come; some answers are what later prompts begin with."""
    made = [Prompt(f"system-{index}", draw(st.integers(1, 20))) for index in range(2)]
    requests: list[tuple[float, EngineRequest]] = []
    at = 0.0
    for index in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from([0.0, 1 / 64, 0.25, 1.0, 7 / 8, 3.0]))
        parent = draw(st.sampled_from([None, *made]))
        again = draw(st.booleans()) and parent is not None
        prompt = parent if again and parent is not None else Prompt(f"p{index}", draw(st.integers(1, 12)), parent)
        output_tokens = draw(st.integers(1, 12))
        answer = Prompt(f"a{index}", output_tokens, prompt) if draw(st.booleans()) else None
        made += [item for item in (prompt, answer) if item is not None and item.tokens <= 40 and item not in made]
        adapter = draw(st.sampled_from(["", "a", "b", "c"]))
        requests.append((at, EngineRequest(prompt, output_tokens, adapter, answer)))
    return requests
