"""Placing models on devices: problems, exact and heuristic search, bounds, plans, the choice among them at run time."""
