"""Lambda on this machine: which functions are served, under which limits, to any SDK.

``EmulatorProcess`` runs it as a child of the calling program. Importing this package is cheap: the
server is imported by the child only.
"""

from fanout.emulator.child import EmulatorProcess

__all__ = ["EmulatorProcess"]
