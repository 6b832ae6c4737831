"""Where outcomes and streamed replies go: standard output, files of the run directory."""
