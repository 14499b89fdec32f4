"""Active learning for object detection: which images should we label next?"""

__version__ = "0.1.0"
__all__ = ["__version__"]
