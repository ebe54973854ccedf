"""What pyright is told of the documentation, and that it sees what is wrong."""

from __future__ import annotations

from pathlib import Path

from tests.page_types import check_pages, module_of

PAGE = """# Page

```python
from inferencepool import SchedulingProfile, WeightedScorer
from inferencepool.plugins import QueueScorer
```

<!--- skip: next -->
```python
nobody_knows_this
```

```python
>>> class Nearly:
...     def score_endpoint(self, candidates): return []
>>> SchedulingProfile(scorers=[WeightedScorer(QueueScorer(), 2)]).name
'default'

```

```python
SchedulingProfile(scorers=[Nearly()])
```
"""


def test_a_misspelt_strategy_on_a_page_is_seen(tmp_path: Path) -> None:
    """An error tells the page and the line; what a page skips is not read, and what has a default may be left out."""
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")

    errors = check_pages({"page.md.py": module_of(page)})

    assert 1 == len(errors)
    assert errors[0].startswith("page.md.py:22: ")
