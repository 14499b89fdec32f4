"""All bad inputs."""

from tests.bad_inputs import annotations, images, models, own_files
from tests.bad_inputs.cases import Case

__all__ = ["all_cases"]


def all_cases() -> list[Case]:
    """Every case, families together."""
    made = [*images.cases(), *annotations.cases(), *own_files.cases(), *models.cases()]
    names = [(case.family, case.name) for case in made]
    if len(set(names)) != len(names):
        raise ValueError("the names of bad inputs must be unique")
    return made
