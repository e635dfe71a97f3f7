"""A plugin for pytest: a failure is told in full when it occurs, and not when all tests have run."""

from typing import Any

import pytest


class _FailuresAtOnce:
    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal: Any = self._plugins.get_plugin("terminalreporter")
            terminal.ensure_newline()
            terminal.write_line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    """Listen to what becomes of each test."""
    config.pluginmanager.register(_FailuresAtOnce(config))
