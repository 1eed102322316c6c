"""One more node of a run that several machines train together.

The machine that supervises is a node as well; each other one runs `triptych runs join RUN`, sees
the same run folder (a shared disk) and has the same settings under `runs`. It takes part in every
attempt until the run has ended.
"""

from __future__ import annotations

import subprocess
import time

from triptych.config.runs import RunsConfig
from triptych.lm.runs.states import ENDED, LIVE
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.supervisor import TICK_S, node_command


def join(store: RunStore, run_id: str, config: RunsConfig) -> int:
    """Take part in a run until it has ended; return the exit code of the last attempt."""
    code = 0
    while (run := store.get(run_id)).state not in ENDED:
        ticket = int(run.control["ticket"])
        if run.state in LIVE and int(run.worker.get("ticket", 0)) == ticket:
            command = node_command(run.path, config, ticket)
            code = subprocess.run(command, check=False).returncode
        time.sleep(TICK_S)
    return code
