"""What was observed and what was scored: outcomes, ragged arrays and the readers of score files."""
