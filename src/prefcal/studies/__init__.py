"""Studies: the published experiments, run again as published and measured exactly."""
