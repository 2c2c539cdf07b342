"""How fast, who learns, what runs survive, how often the verdict errs."""
