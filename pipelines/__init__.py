"""Programs that a person runs, and the stages they share."""
