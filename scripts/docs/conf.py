"""Settings of Sphinx for `make docs`."""

from __future__ import annotations

from typing import Any

import jinaclip

project = "jinaclip"
version = release = jinaclip.__version__
copyright = ""  # noqa: A001  # Sphinx's name; LICENSE says whose it is
extensions = ["myst_parser"]

myst_heading_anchors = 4
"""So deep `page.md#heading` works, by the forge's own rule."""

html_theme = "pydata_sphinx_theme"
html_title = "jinaclip"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "search": []}


def setup(app: Any) -> None:
    """Code of languages that Pygments does not know is shown without colours."""
    from pygments.lexers.special import TextLexer

    for name in ("caddyfile", "haproxy"):
        app.add_lexer(name, TextLexer)
