"""Scale the channels of linear pairs by random factors: the float function is the same, but harder to quantize.

What reads a channel is divided by its factor. Training leaves such models too: nothing in float tells
them apart. One scale for all channels of a tensor then fits few of them.
"""

import numpy as np

from mbn_deploy.quantize.channel_groups import channel_groups, rescale

LIMIT = 32.0


def scramble(graph, seed=0, limit=LIMIT):
    """Return the folded `graph` with factors between 1/limit and limit on every channel without its own bound."""
    rng = np.random.default_rng(seed)
    for group in channel_groups(graph):
        factors = np.exp2(rng.uniform(-1, 1, group.channels) * np.log2(limit))
        graph = rescale(graph, group, factors)
    return graph
