"""From settings to runs: configuration, command line, multiruns."""
