"""Run a graph with the reference implementation that every writer is compared with, and check shapes on the way."""

from mbn_deploy.graph import execute


def run_graph(graph, x):
    """Return every tensor of `graph` by name for the input `x` (N, H, W, C)."""
    values = execute.run_graph(graph, x)
    for name, value in values.items():
        assert value.shape[1:] == tuple(graph.shapes[name][1:]), (name, value.shape, graph.shapes[name])
    return values
