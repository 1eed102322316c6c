"""A real SLURM cluster of one machine, and a real sshd, for the tests of batch jobs."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import require

from triptych.processes import free_port

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/node.pid
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/node.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[str]:
    """Start munged, slurmctld and slurmd; return the path of slurm.conf."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(
        CONF.format(
            host=socket.gethostname().partition(".")[0], folder=folder, control=free_port(),
            node=free_port(), user=getpass.getuser(),
        )
    )  # fmt: skip
    environment = os.environ | {"SLURM_CONF": str(config)}
    places = [
        f"--{name}={folder}/munge.{end}"
        for name, end in (
            ("key-file", "key"), ("socket", "sock"), ("pid-file", "pid"), ("log-file", "log"),
            ("seed-file", "seed"),
        )
    ]  # fmt: skip
    started = [
        subprocess.Popen([require("munged"), "--force", "--foreground", *places]),
    ]
    try:
        _until(lambda: (folder / "munge.sock").exists())
        for program in ("slurmctld", "slurmd"):
            started.append(
                subprocess.Popen(
                    [require(program), "-D", "-c"], env=environment, stderr=subprocess.DEVNULL
                )
            )
        _until(lambda: "idle" in _said(["sinfo", "-h", "-o", "%T"], environment))
        yield str(config)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def other_machine() -> Iterator[list[str]]:
    """Start sshd on a port of its own; return the options with which ssh reaches it."""
    folder = Path(tempfile.mkdtemp(prefix="ssh-", dir="/tmp"))
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    port = free_port()
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = [
        f"HostKey={folder}/host", f"AuthorizedKeysFile={folder}/user.pub", "StrictModes=no",
        "UsePAM=no", "PidFile=none", f"ListenAddress=127.0.0.1:{port}", "PermitUserEnvironment=no",
        f"SetEnv=PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
    ]  # fmt: skip
    given = [text for setting in settings for text in ("-o", setting)]
    process = subprocess.Popen(
        [require("sshd"), "-D", "-f", "/dev/null", *given], stderr=subprocess.DEVNULL
    )
    options = [
        "-p", str(port), "-i", str(folder / "user"), "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    ]  # fmt: skip
    try:
        _until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield options
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    ).stdout


def _until(condition: object) -> None:
    for _ in range(600):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("it did not start")
