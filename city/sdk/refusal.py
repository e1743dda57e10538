"""What a town says no with: a sentence for people and a code that never changes."""

from __future__ import annotations


class Refused(Exception):
    """The town's rules forbid it. Only `code` enters the result; the sentence is filled in when somebody reads it."""

    def __init__(self, code: str, template: str, fields: dict[str, object] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.template = template
        self.fields = fields or {}

    def __str__(self) -> str:
        """The code and the sentence with its fields filled in."""
        return f"{self.code}: {self.template.format(**self.fields)}" if self.fields else f"{self.code}: {self.template}"


class Refusal:
    """Declares a refusal: ``taken = Refusal("tool {tool} is out")``, raised as ``raise self.taken(tool=7)``.

    The code is ``<module>.<attribute name>``: to rename the attribute is to change the code.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self.code = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.code = f"{getattr(owner, 'name', '')}.{name}"

    def __call__(self, **fields: object) -> Refused:
        """The exception to raise, with the *fields* of its sentence."""
        return Refused(self.code, self.template, fields)


OUT_OF_WEIGHT = "town.out_of_weight"
OVERFLOW = "town.overflow"
TOO_DEEP = "town.too_deep"
NOT_AUTHORISED = "town.not_authorised"
FAULT = "module.fault"

TEXTS = {
    OUT_OF_WEIGHT: "the work costs more weight than the fee, the quota or the limit of a transaction allows",
    OVERFLOW: "a number would leave its range",
    TOO_DEEP: "modules call each other more than 16 deep",
    NOT_AUTHORISED: "only a passed proposal may do this",
    FAULT: "the module has a defect; nothing was changed, and every node's log has the traceback",
}
"""Refusals of the town itself: code → sentence."""


def refused(code: str) -> Refused:
    """The exception for one of the town's own refusals (a key of `TEXTS`)."""
    return Refused(code, TEXTS[code])
