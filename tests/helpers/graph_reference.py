"""The execution that every emitter is compared with; shapes are checked on the way."""

from mbn_deploy.graph import execute


def run_graph(graph, x):
    """Every tensor of `graph` by name for the input `x` (N, H, W, C)."""
    values = execute.run_graph(graph, x)
    for name, value in values.items():
        assert value.shape[1:] == tuple(graph.shapes[name][1:]), (name, value.shape, graph.shapes[name])
    return values
