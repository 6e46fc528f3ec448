"""What the system tests stand on: the real program as a subprocess, and clients that can also misbehave."""

from .processes import eventually
from .server import Finished, Server, run_to_end

__all__ = ["Finished", "Server", "eventually", "run_to_end"]
