"""A chain runs the application and modules that its genesis names, in the versions that it names, or not at all."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from node import applications
from node.applications import ApplicationMissing, application_for
from tests.node.bench import genesis


class _Point:
    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self.load = lambda: loaded


class _Module:
    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version


class _Town:
    version = 1

    def __init__(self, *, modules: list[_Module], report: Any) -> None:
        self.modules = modules
        self.report = report


def _installed(monkeypatch: pytest.MonkeyPatch, town: Any, *modules: _Point) -> None:
    groups = {applications.GROUP: [_Point("register", town)] if town else [], applications.MODULE_GROUP: modules}
    monkeypatch.setattr(applications, "entry_points", lambda group: groups[group])


def test_the_named_application_runs_with_the_named_modules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _Module("register", 1)
    _installed(monkeypatch, _Town, _Point("register", module), _Point("other", _Module("other", 1)))
    town: Any = application_for(genesis())
    assert town.modules == [module]
    town.report("register", ValueError("a defect"))


@pytest.mark.parametrize(
    ("town", "module", "text"),
    [
        (None, _Point("register", _Module("register", 1)), "application “register”"),
        (_Town, _Point("other", _Module("other", 1)), "modules that are not installed here: register"),
        (_Town, _Point("register", _Module("register", 2)), "version 1 of the module “register”, installed is 2"),
        (_Town, _Point("register", _Module("renamed", 1)), "calls itself “renamed”"),
    ],
)
def test_what_is_missing_is_named(town: Any, module: _Point, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, town, module)
    with pytest.raises(ApplicationMissing, match=text):
        application_for(genesis())


def test_an_application_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, _Town, _Point("register", _Module("register", 1)))
    with pytest.raises(ApplicationMissing, match="installed is 1"):
        application_for(dataclasses.replace(genesis(), application_version=2))
