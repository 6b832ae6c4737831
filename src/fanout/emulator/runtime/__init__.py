"""Code that runs inside an environment's process, never in the emulator: standard library only.

Loaded by file, under a name of its own, so that it neither drags this package into a handler's
process nor stands in the way of a module that the handler brings.
"""
