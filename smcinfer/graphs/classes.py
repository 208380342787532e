"""Which blocks may move at once: classes of blocks that share no factor, known before any state is.

Moves of one class read nothing that another of them writes, so that making them together is making them one after the
other. A schedule over classes does not depend on the state.
"""

import numpy as np

from smcinfer.graphs.blocks import Blocks
from smcinfer.ground.arrays import Int


def colour_classes(blocks: Blocks) -> Int[np.ndarray, "classes width"]:
    """A greedy colouring: rows of block indices, padded with ``num_blocks``, every block in exactly one row (host)."""
    variables, blanket = np.asarray(blocks.variables)[:-1], np.asarray(blocks.blanket)[:-1]
    absent = int(np.asarray(blocks.variables)[-1, 0])
    writers: list[list[int]] = [[] for _ in range(absent + 1)]
    for block, members in enumerate(variables.tolist()):
        for variable in members:
            writers[variable].append(block)
    # Two blocks share a factor just where one of them reads or writes what the other writes.
    colours = [-1] * len(variables)
    for block, seen in enumerate(np.concatenate([variables, blanket], axis=1).tolist()):
        taken = {colours[other] for variable in seen if variable != absent for other in writers[variable]}
        colours[block] = next(colour for colour in range(len(variables) + 1) if colour not in taken)
    members = [np.flatnonzero(np.array(colours) == colour) for colour in range(max(colours) + 1)]
    classes = np.full((len(members), max(map(len, members))), len(variables), np.int32)
    for row, ids in enumerate(members):
        classes[row, : len(ids)] = ids
    return classes
