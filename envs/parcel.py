"""How a thing that makes environments travels to another process: by name where that works, else by value."""

from __future__ import annotations

import sys
from typing import Any


class Unable(Exception):  # noqa: N818 - the name is the sentence
    """It cannot travel; the text says why."""


def packed(what: Any, home: str) -> bytes:
    """Return `what` as bytes that `pickle.loads` reads in another process.

    Classes and functions go by name. What stands in `__main__`, or in the module `home` where a fresh process would not
    import the same file under that name, goes by value.

    Raises `Unable` for what cannot be pickled.
    """
    import cloudpickle  # comes with Gymnasium

    by_value = home in sys.modules and not importable(home)
    if by_value:
        cloudpickle.register_pickle_by_value(sys.modules[home])
    try:
        return bytes(cloudpickle.dumps(what))
    except Exception as error:  # locks, sockets, processes: whatever pickle meets
        raise Unable(f"the environment cannot travel to another process: {error}"[:500]) from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(sys.modules[home])


def importable(module: str) -> bool:
    """Return whether a fresh process with our `sys.path` would import the same file under this name."""
    if module == "__main__":
        return True  # cloudpickle takes what stands there by value anyway
    path: Any = None
    origin: str | None = None
    parts = module.split(".")
    for i in range(len(parts)):  # not `importlib.util.find_spec`: it trusts the packages that are loaded here
        name = ".".join(parts[: i + 1])
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None:
            return False
        path, origin = spec.submodule_search_locations, spec.origin
    return origin == getattr(sys.modules[module], "__file__", None)
