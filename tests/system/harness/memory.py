"""Memory limits for single processes, so that the kernel really ends one for want of memory."""

import contextlib
import os
import uuid
from pathlib import Path
from types import TracebackType

_ROOT = Path("/sys/fs/cgroup")


class Starved:
    """A control group in which there is next to no memory. `is_possible` is false where this user may make none."""

    def __init__(self) -> None:
        name = f"monoceros-test-{uuid.uuid4().hex[:8]}"
        self.directory: Path | None = None
        for parent, limit in ((_ROOT / "memory", "memory.limit_in_bytes"), (_ROOT, "memory.max")):
            directory = parent / name
            with contextlib.suppress(OSError):
                directory.mkdir()
                if (directory / limit).exists():
                    (directory / limit).write_text(str(1 << 20))
                    self.directory = directory
                    return
                directory.rmdir()

    @property
    def is_possible(self) -> bool:
        return self.directory is not None

    def put(self, pid: int) -> bool:
        """From now on this process finds no more memory. False when it is gone."""
        assert self.directory is not None
        try:
            (self.directory / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return False
        return True

    def __enter__(self) -> "Starved":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.directory is not None:
            with contextlib.suppress(OSError):
                for pid in (self.directory / "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)
                self.directory.rmdir()
