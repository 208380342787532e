"""The version of the package."""

from importlib import metadata


def package_version() -> str:
    """Version of the installed package, or ``"unknown"`` in a tree that was never installed."""
    try:
        return metadata.version("smcinfer")
    except metadata.PackageNotFoundError:
        return "unknown"
