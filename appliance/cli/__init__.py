"""The `memorystreamer` command, one file per noun."""
