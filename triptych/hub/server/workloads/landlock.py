"""Confine this process by Landlock, then become another program: `landlock.py SPEC PROGRAM ...`.

Run as a program of its own, with the standard library only, so that it starts in a few
milliseconds and imports nothing that the confinement would have to let in. After it, the process
and everything it starts

- opens the paths of SPEC only (Landlock),
- binds the TCP ports of SPEC only (Landlock, Linux 6.7),
- sends signals to its own descendants only (Landlock, Linux 6.12, or by another user id),
- reads neither memory nor environment of a process outside (Landlock restricts ptrace),
- has no capability, no way to gain one, and no user namespace to get a new set in.

Landlock does not restrict `connect` to a socket file, `chmod`, or `prlimit`. With another user
id the kernel's plain permissions do; with the hub's own, a seccomp filter does. Left out: which
paths and ports (`isolation`), limits (`triptych.processes`), the network outward.

Source: https://docs.kernel.org/userspace-api/landlock.html, include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_RULE_PATH, _RULE_PORT = 1, 2
# Access rights, bit by bit, as the kernel numbers them.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_BIND_TCP = 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAP_AMBIENT = 24, 38, 22, 47
_AMBIENT_CLEAR_ALL = 4
_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_EPERM, _ENOSYS = 1, 38
_AF_UNIX, _SOCK_DGRAM, _CLONE_NEWUSER = 1, 2, 0x10000000

# Architecture word of seccomp, then the numbers of the system calls the filter knows.
_CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "socketpair": 53, "clone": 56, "clone3": 435, "unshare": 272, "setns": 308,
        "io_uring_setup": 425, "chmod": 90, "fchmodat": 268, "fchmodat2": 452, "prlimit64": 302,
        "add_key": 248, "request_key": 249, "keyctl": 250, "shmget": 29, "msgget": 68,
        "semget": 64,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "socketpair": 199, "clone": 220, "clone3": 435, "unshare": 97,
        "setns": 268, "io_uring_setup": 425, "fchmodat": 53, "fchmodat2": 452, "prlimit64": 261,
        "add_key": 217, "request_key": 218, "keyctl": 219, "shmget": 194, "msgget": 186,
        "semget": 190,
    }),
}  # fmt: skip
_X32 = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the version of Landlock this kernel has; 0 for none."""
    if not sys.platform.startswith("linux") or platform.machine() not in _CALLS:
        return 0
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(0, int(version))


def confine(spec: dict[str, Any]) -> None:
    """Confine this process for good.

    `read`, `write` and `devices` of the spec are paths, `ports` the TCP ports to bind, `uid` the
    user to become or None.

    Raises: OSError when the kernel refuses any step; the process must then not go on.
    """
    uid = spec["uid"]
    # The rules need open paths, so they are made while this process may still open them.
    ruleset = _ruleset(spec)
    _drop_capability_bounds()
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(ruleset)
    _filter_calls(own_user=uid is not None)
    os.umask(0o022)


def main(arguments: Sequence[str]) -> None:
    """Confine this process by the first argument and become the program the others name."""
    os.closerange(3, 1024)
    confine(json.loads(arguments[0]))
    try:
        os.execvp(arguments[1], list(arguments[1:]))  # noqa: S606  the point of this program
    except OSError as error:
        sys.exit(f"cannot start {arguments[1]}: {error.strerror}")


def _ruleset(spec: dict[str, Any]) -> int:
    version = abi()
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attribute = struct.pack("=Q", handled)
    if version >= 4:
        attribute += struct.pack("=Q", _BIND_TCP)
    if version >= 6:
        attribute += struct.pack("=Q", _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
    ruleset = _check(
        _libc.syscall(
            _CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint32(0)
        ),
        "landlock_create_ruleset",
    )
    # /proc/self is the folder of this process, which the program after it keeps.
    _allow(ruleset, [*spec["read"], "/proc/self"], handled & _READ)
    _allow(ruleset, spec["write"], handled)
    _allow(ruleset, spec["devices"], handled & (_FILE_ONLY & ~_EXECUTE))
    # Semaphores and shared tensors: made, opened by name and removed there, but never listed.
    _allow(ruleset, spec["shared"], handled & ~(_EXECUTE | _READ_DIR))
    # Port 0 is any free port: libraries listen there for themselves, no other program's port is
    # taken by it.
    for port in (*spec["ports"], 0) if version >= 4 else ():
        rule = struct.pack("=QQ", _BIND_TCP, port)
        _check(_libc.syscall(_ADD_RULE, ruleset, _RULE_PORT, rule, 0), "landlock_add_rule")
    return ruleset


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    """Allow rights beneath paths; what does not exist is left out."""
    for path in paths:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        folder = stat.S_ISDIR(os.fstat(opened).st_mode)
        rule = struct.pack("=Qi", rights if folder else rights & _FILE_ONLY, opened)
        _check(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH, rule, 0), f"landlock_add_rule {path}")
        os.close(opened)


def _drop_capability_bounds() -> None:
    """Empty the bounding set; a user without capabilities cannot, and needs not."""
    if os.geteuid() != 0:
        return
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            return  # EINVAL: past the last; EPERM: no_new_privs and the empty sets must do


def _drop_capabilities() -> None:
    _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def _filter_calls(*, own_user: bool) -> None:
    """Install a seccomp filter; as the hub's own user it forbids more.

    A user namespace would bring all capabilities back inside itself; `clone3` hides its flags
    behind a pointer, so libc is made to use `clone`. `io_uring` would go around every filter.
    """
    architecture, calls = _CALLS[platform.machine()]
    program = [
        _load(4), *_unless_equal(architecture, [_return(0x80000000)]),
        _load(0), _jump(0x35, _X32, 0, 1), _fail(_ENOSYS),
    ]  # fmt: skip
    answers = {"unshare": _EPERM, "setns": _EPERM, "clone3": _ENOSYS, "io_uring_setup": _ENOSYS}
    # Each ends in a value the next instruction compares: argument, comparison, operand, answers.
    clone = [_load(16), _jump(0x45, _CLONE_NEWUSER, 0, 1), _fail(_EPERM), _allowed()]
    program += _block(calls["clone"], clone)
    if not own_user:
        # Each of these reaches what belongs to the same user outside: sockets of the system's
        # services, limits of the hub's process, keys, shared memory. `chmod` by path does
        # nothing and answers well, because copying a file ends with it; `fchmod` works, for it
        # needs a file that Landlock let the process open.
        answers |= dict.fromkeys(("shmget", "msgget", "semget"), _ENOSYS)
        answers |= dict.fromkeys(("add_key", "request_key", "keyctl"), _ENOSYS)
        answers |= dict.fromkeys(("chmod", "fchmodat", "fchmodat2"), 0)
        program += _block(
            calls["socket"], [_load(16), _jump(0x15, _AF_UNIX, 0, 1), _fail(_EPERM), _allowed()]
        )
        # A datagram socket of a pair could still be sent to another address.
        pair = [_load(24), _instruction(0x54, 0, 0, 0xF), _jump(0x15, _SOCK_DGRAM, 0, 1)]
        program += _block(calls["socketpair"], [*pair, _fail(_EPERM), _allowed()])
        program += _block(
            calls["prlimit64"], [_load(16), _jump(0x15, 0, 1, 0), _fail(_EPERM), _allowed()]
        )
    for name, error in answers.items():
        if name in calls:
            program += _block(calls[name], [_fail(error)])
    program.append(_allowed())
    code = b"".join(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=H6xQ", len(program), ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, _FILTER, header, 0, 0), "seccomp")


def _instruction(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _load(offset: int) -> bytes:
    """Load a word of the call: 0 its number, 4 the architecture, 16 and 24 two arguments."""
    return _instruction(0x20, 0, 0, offset)


def _jump(code: int, operand: int, if_true: int, if_false: int) -> bytes:
    return _instruction(code, if_true, if_false, operand)


def _return(answer: int) -> bytes:
    return _instruction(0x06, 0, 0, answer)


def _fail(error: int) -> bytes:
    return _return(0x00050000 | error)


def _allowed() -> bytes:
    return _return(0x7FFF0000)


def _unless_equal(value: int, then: list[bytes]) -> list[bytes]:
    return [_jump(0x15, value, len(then), 0), *then]


def _block(call: int, then: list[bytes]) -> list[bytes]:
    """Run instructions, which must end in an answer, for one call only."""
    return [_jump(0x15, call, 0, len(then)), *then]


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _check(answer: int, what: str) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
