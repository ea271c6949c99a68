"""What agents compute with: layers, and the scaling of observations."""
