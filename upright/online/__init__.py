"""Learning where the loop is not ours: on hardware."""
