"""Lambda on this machine: serves functions to any SDK, under Lambda's limits.

``EmulatorProcess`` runs it as a child of the calling program. Importing this package is cheap: the
server is imported by the child only.
"""

from fanout.emulator.child import EmulatorProcess

__all__ = ["EmulatorProcess"]
