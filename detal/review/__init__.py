"""Look through a batch before it goes to people: accept, reject, take the next best instead."""

from detal.review.decisions import Decisions, Verdict
from detal.review.export import write_reviewed
from detal.review.server import ReviewServer
from detal.review.session import Session, open_session

__all__ = [
    "Decisions",
    "ReviewServer",
    "Session",
    "Verdict",
    "open_session",
    "write_reviewed",
]
