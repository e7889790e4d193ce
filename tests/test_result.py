"""What a result says of where it ran."""

from __future__ import annotations

import importlib.metadata

import pytest

from speechft.result import environment


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "bitsandbytes":  # as on Apple's machines
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    found = environment()
    assert "bitsandbytes" not in found
    assert found["torch"] == version("torch")
