"""What an application may ask of the server that runs it.

    try:
        import monoceros
    except ImportError:          # run by another server
        monoceros = None
"""

from monoceros_worker import DeadlineExceeded, extend_deadline

__all__ = ["DeadlineExceeded", "extend_deadline"]
