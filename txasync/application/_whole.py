"""What the rest of the package imports on demand, imported at once."""

from __future__ import annotations

import importlib
import pkgutil

__all__ = ["import_on_demand_parts"]

_PARTS = ("adapters", "bridge", "tls", "transports")


def import_on_demand_parts() -> None:
    """Import what a loop would import when it is needed: under ``twistd --chroot`` that is too late."""
    root = __name__.partition(".")[0]
    importlib.import_module(f"{root}._asyncio_reactor")
    for part in _PARTS:
        package = importlib.import_module(f"{root}.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
