"""One run on many processes: a coordinator, and workers that Dask places.

A worker is the engine of the single process behind three seams: its intake, its ledger and its budget are
the coordinator's.
"""

from __future__ import annotations

from fanout.workers.coordinator import Coordinator
from fanout.workers.dask_crew import DaskCrew, load_dask

__all__ = ["Coordinator", "DaskCrew", "load_dask"]
