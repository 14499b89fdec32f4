"""detal."""
