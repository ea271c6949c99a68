"""From a task and an agent to a run folder."""
