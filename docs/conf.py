"""Builds the site from the files of the repository as they stand: make site."""

from __future__ import annotations

from sphinx.application import Sphinx

project, author = "dnr_bench", "The dnr_bench team"
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "README"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "dnr_bench/shapes/MODEL_CARD.md",
]  # fmt: skip
exclude_patterns = [".venv*", "mlruns"]
html_theme = "furo"
html_title = project
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
copybutton_selector = "div.highlight pre"
highlight_language = "none"

#: The pages of the menu, by who wants them.
_MENU = {
    "Start": ["first_run", "cookbook", "methods", "your_network", "python", "config"],
    "Compare": ["comparing", "evaluators", "trust", "ratings", "gate", "sweeps", "records"],
    "Results": ["results", "refinement", "papers", "full_size", "neuron_rank"],
    "Run": ["chat_models", "scale", "performance", "security"],
    "Build": ["extending", "architecture"],
}


def _with_menu(app: Sphinx, name: str, source: list[str]) -> None:
    """The menu stands on the first page, which is the README and has none of its own."""
    if name == root_doc:
        parts = [
            f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(f"docs/{page}" for page in pages)
            for caption, pages in _MENU.items()
        ]
        parts.append("```{toctree}\n:hidden:\n\nCONTRIBUTING\nCHANGELOG\ndnr_bench/shapes/MODEL_CARD")
        source[0] += "".join(f"\n{part}\n```\n" for part in parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _with_menu)
