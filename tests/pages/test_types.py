"""What pyright and mypy are told of the documentation, and that they see what is wrong."""

from __future__ import annotations

from tests.pages.types import check_pages

PAGE = """# Page

```python
from inferencepool import SchedulingProfile, WeightedScorer
from inferencepool.plugins import QueueScorer
```

<!-- not run: it is no program -->
```python
nobody_knows_this
```

```python
class Nearly:
    def score_endpoint(self, candidates):
        return []


print(SchedulingProfile(scorers=[WeightedScorer(QueueScorer(), 2)]).name)
```

```text
default
```

```python
SchedulingProfile(scorers=[Nearly()])
```
"""


def test_a_misspelt_strategy_on_a_page_is_seen() -> None:
    """An error tells the page and the line; what is not run is not read, and what has a default may be left out."""
    errors = check_pages({"docs/page.md": PAGE})

    assert {"mypy", "pyright"} == {error.split(": ")[1] for error in errors}
    assert all(error.startswith("docs/page.md:27: ") for error in errors)
