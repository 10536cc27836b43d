"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.services.fixtures import docker_server, moto_server, postgres_server, s3_server

__all__ = ["docker_server", "moto_server", "postgres_server", "s3_server"]

IN_CI = os.environ.get("CI") == "true"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped in CI: what a test needs is installed there, or CI is red."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be: {report.longrepr}"
    return report
