"""Runs: what the command line does, from a config to files."""
