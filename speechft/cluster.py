"""Ray, started here or joined: what fleets and parallel studies run on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from speechft.errors import SpeechftError, missing_extra
from speechft.interruption import own_signals

OBJECT_STORE = 100_000_000  # bytes; all that goes through it are settings and scores


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """The `ray` module, connected.

    Args:
        address: of a running cluster, such as `auto` or `ray://host:10001`; None starts one on this machine that is
            gone at the end, without dashboard.

    Raises:
        SpeechftError: Ray is not installed, or there is no such cluster.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anyone
    os.environ["RAY_DISABLE_FAILURE_SIGNAL_HANDLER"] = "1"  # which turns a SIGTERM into a crash
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray") from None
    settings: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        settings |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        with own_signals():
            ray.init(**settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        fix = "Check the address, and that 'ray status' finds the cluster from here." if address else "Try once more."
        what = f"cannot connect to a Ray cluster there ({error})"
        raise SpeechftError(what, where=address or "this machine", fix=fix) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def reason(error: Exception) -> str:
    """Why a task of Ray's failed, in a line."""
    return str(error).strip().splitlines()[-1]
