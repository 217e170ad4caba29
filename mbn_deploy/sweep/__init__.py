"""Sweeps: many variants, a bundle each, on any executor; a table with the Pareto fronts."""
