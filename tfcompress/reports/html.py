"""A report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import re
from typing import Any

from tfcompress.reports.content import Content


def to_html(content: Content) -> str:
    """Return the page; all texts are escaped.

    >>> from tfcompress.reports.content import Text
    >>> "<p>a &lt; b</p>" in to_html(Content("Report", "", "", [Text("a < b", soft=False)]))
    True
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfcompress.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html").render(content=content) + "\n"


def _breakable(text: str) -> Any:
    """Return escaped text with its lines, which may be broken behind the parts of a name, too."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([._/])(?=[^\W\d])", r"\1<wbr>", str(escape(text))).replace("\n", "<br>"))
