"""What may be wrong with a task, before anything learns from it: recorded steps to findings."""
