"""Changes to ``consensus/`` that no test notices, and why that is right: function and new line → reason."""

SURVIVORS: dict[tuple[str, str], str] = {}
