"""curl, as a subprocess: a client that shares no code with the tests."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSIONS = {"h1": "--http1.1", "h2": "--http2"}
NAMES = {"h1": "1.1", "h2": "2"}


@dataclass(frozen=True)
class CurlResult:
    """What curl received; `version` as curl names it (`1.1`, `2`)."""

    status: int
    version: str
    body: bytes


def curl(url: str, *arguments: object, http: str = "h1", ca: Path | None = None, output: Path | None = None) -> CurlResult:
    """One request. With `output` the body goes to that file and `body` stays empty."""
    command = ["curl", "--silent", "--show-error", "--max-time", "240", VERSIONS[http], url]
    if ca:
        command += ["--cacert", str(ca)]
    facts = '\\n{"status": %{http_code}, "version": "%{http_version}"}'
    command += ["--write-out", f"%{{stderr}}{facts}", *map(str, arguments)]
    if output:
        command += ["--output", str(output)]
    done = subprocess.run(command, capture_output=True, check=False)
    errors = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(command)} failed with {done.returncode}:\n{errors}"
    answer = json.loads(errors.rpartition("\n")[2])
    return CurlResult(answer["status"], answer["version"], done.stdout)
