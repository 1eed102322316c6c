"""The audit before every release: it can fail, and it is void where its controls do not leak.

Synthetic companies go through the code of a build. `run_audit` returns a report whose figures are
those of `Limits`; the report is kept with the release. Left out: real companies' text.
"""

from triptych.learning.abstraction.audit.report import run_audit

__all__ = ["run_audit"]
