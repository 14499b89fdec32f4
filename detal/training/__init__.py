"""Train detectors for a fixed number of optimisation steps: repeatable, resumable, in a budget."""
