"""Decide what becomes of a test whose system program is not installed.

A test names its program with `@pytest.mark.needs("git-lfs")`, or through a mark or a fixture of the
tables below. Where the program is missing the test is skipped before any of its fixtures starts,
and one line at the end of the run names what to install. With CI set it fails instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Generator

import pytest

#: Program -> the Debian package that brings it.
PROGRAMS = {
    "chromium": "chromium",
    "bwrap": "bubblewrap",
    "redis-server": "redis-server",
    "git-lfs": "git-lfs",
    "haproxy": "haproxy",
    "slurmctld": "slurm-wlm",
    "sshd": "openssh-server",
}
MARKS = {"browser": "chromium"}
FIXTURES = {
    "browser": "chromium",
    "redis_url": "redis-server",
    "cloned": "git-lfs",
    "cluster": "haproxy",
    "slurm": "slurmctld",
    "other_machine": "sshd",
}
REASON = re.compile(rf"needs ({'|'.join(PROGRAMS)})$")


def require(program: str) -> str:
    """Return the program's path; where it is missing, skip the test, or fail it in CI."""
    path = shutil.which(program)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{program} is missing; apt-get install {PROGRAMS[program]}", pytrace=False)
    pytest.skip(f"needs {program}")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "needs(program): skipped where this program is missing")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Ask for the programs of a test before its fixtures start."""
    needed = [mark.args[0] for mark in item.iter_markers("needs")]
    needed += [program for mark, program in MARKS.items() if item.get_closest_marker(mark)]
    needed += [FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES]
    for program in dict.fromkeys(needed):
        require(program)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Name the missing programs in the last line, with the command that installs them."""
    yield
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        found = REASON.search(str(report.longrepr[-1] if report.longrepr else ""))
        if found:
            skipped[found[1]] += 1
    if skipped:
        tests = ", ".join(f"{program} ({count} tests)" for program, count in skipped.items())
        packages = " ".join(PROGRAMS[program] for program in skipped)
        terminalreporter.write_line(
            f"missing programs: {tests}; to run these too: apt-get install {packages}", yellow=True
        )
