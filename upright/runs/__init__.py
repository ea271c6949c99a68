"""The run folder: what was asked, on what, and what happened; a folder for each seed."""

from upright.runs.reader import Run as Run
from upright.runs.reader import find_policy as find_policy
from upright.runs.reader import find_run as find_run
from upright.runs.reader import find_runs as find_runs
from upright.runs.reader import open_run_or_policy as open_run_or_policy
