"""A generated detection dataset: handwritten digits on textured backgrounds, any size."""

from detal.sandbox.build import Sandbox, make_sandbox

__all__ = ["Sandbox", "make_sandbox"]
