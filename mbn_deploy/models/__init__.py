"""Network definitions as tables, one builder, weights, and analysis that needs no framework."""
