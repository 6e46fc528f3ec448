"""Large files for uploads, made once, and checksums."""

import hashlib
from pathlib import Path

# Prime, so that no block size of any program divides it.
_PERIOD = bytes((index * 31 + index // 7) % 256 for index in range(65521))


def make_file(path: Path, length: int) -> str:
    """Writes `length` bytes of a pattern without short repetition; returns their SHA-256."""
    checksum = hashlib.sha256()
    with path.open("wb") as file:
        while length > 0:
            block = _PERIOD[:length] if length < len(_PERIOD) else _PERIOD
            file.write(block)
            checksum.update(block)
            length -= len(block)
    return checksum.hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_blocks(length: int, block: bytes) -> str:
    """SHA-256 of `block` repeated and cut to `length`: what the download routes of the applications send."""
    checksum = hashlib.sha256()
    while length > 0:
        checksum.update(block[:length])
        length -= len(block)
    return checksum.hexdigest()
