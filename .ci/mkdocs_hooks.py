"""What the pages of the documentation say of the version that they are of."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

from mkdocs.config.defaults import MkDocsConfig

_VERSION = Path(__file__).resolve().parents[1] / "inferencepool" / "_version.py"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the version into every footer, beside the ways to what changed and to the licence."""
    version = run_path(str(_VERSION))["__version__"]
    site = (config.site_url or "/").rstrip("/")
    config.copyright = (
        f'inferencepool {version} · <a href="{site}/changes/">Changes</a> · <a href="{site}/licence/">Apache-2.0</a>'
    )
    return config
