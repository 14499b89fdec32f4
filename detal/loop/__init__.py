"""The loop: simulate, compare, merge, repeat."""
