from ..application import app  # relative imports work only when the package is imported as one

__all__ = ["app"]
