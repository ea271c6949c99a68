"""A symmetry that a task claims: does the mirrored task do the mirrored thing?"""

from upright.errors import UprightError
from upright.finding import Finding
from upright.tasks.symmetry import check_mirror
from upright.tasks.task import Task


def check(task: Task) -> list[Finding]:
    """Nothing, if the task claims none."""
    if task.spec.mirror is None:
        return []
    try:
        check_mirror(task)
    except UprightError as error:
        fix = "correct spec.mirror or the task's own mirror(state), or leave both out"
        return [Finding("symmetry", "problem", str(error), fix)]
    return [Finding("symmetry", "fine", "the mirrored task does the mirrored thing")]
