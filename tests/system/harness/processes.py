"""The process table, read from /proc: who descends from whom, and whether anything was left behind."""

import ctypes
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# A test that waits for something waits this long before it fails: generous, because both cores may be busy.
PATIENCE = 30.0

# Same number on every architecture (Linux 5.6 and later).
_SYS_PIDFD_OPEN = 434
_SYS_PIDFD_GETFD = 438


def eventually(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Polls until `condition` gives something true and returns it; fails with `what` when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout:g} s: {what}")
        time.sleep(0.01)


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command name stands in parentheses and may itself contain spaces and parentheses.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            parents[int(entry.name)] = int(parent)
    return parents


def children(pid: int) -> list[int]:
    """Living children of a process; zombies do not count."""
    return sorted(child for child, parent in _parents().items() if parent == pid)


def descendants(pid: int) -> list[int]:
    """Living children, their children, and so on."""
    parents = _parents()
    found: list[int] = []
    ring = [pid]
    while ring:
        ring = [child for child, parent in parents.items() if parent in ring]
        found += ring
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return pid in _parents()


def carrying(variable: str, value: str) -> list[int]:
    """Processes whose environment has `variable=value`: finds orphans too, which no longer have their parent."""
    wanted = f"{variable}={value}".encode()
    found = []
    for pid in _parents():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if wanted in environment.split(b"\0"):
            found.append(pid)
    return found


def describe(pids: list[int]) -> str:
    """Command lines of processes, for failure messages."""
    lines = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            command = "(ended meanwhile)"
        lines.append(f"{pid}: {command}")
    return "\n".join(lines)


def unread_bytes(pid: int) -> int:
    """Bytes that wait unread in the sockets of another process, which may be stopped.

    This is how a test knows that a request *was handed* to a stopped worker, instead of sleeping and hoping.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(_SYS_PIDFD_OPEN, pid, 0)
    if process < 0:
        return 0
    total = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not os.readlink(entry).startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            duplicate = libc.syscall(_SYS_PIDFD_GETFD, process, int(entry.name), 0)
            if duplicate < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd: may this user trace its own children?")
            try:
                answer = fcntl.ioctl(duplicate, termios.FIONREAD, struct.pack("i", 0))
                total += struct.unpack("i", answer)[0]
            except OSError:
                # A listening socket has no receive queue of bytes.
                pass
            finally:
                os.close(duplicate)
    except FileNotFoundError:
        return 0
    finally:
        os.close(process)
    return total
