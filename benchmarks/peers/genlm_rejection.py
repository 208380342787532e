"""genlm-control's adaptive weighted rejection sampling on given laws and given sets of accepted tokens.

    python benchmarks/peers/genlm_rejection.py cases.npz

``cases.npz`` holds ``log_p`` (laws, V) and ``accepted`` (predicates, V). Prints JSON: for every predicate the median
seconds a draw, one after another and of all laws at a time, and the mean weight. Its batching of calls is off: it costs more
than such calls do.
"""

import asyncio
import json
import statistics
import sys
import time

import numpy as np
from genlm.control import AWRS, Potential


class Laws(Potential):
    """Laws of the next token, picked by the first token of the context."""

    def __init__(self, vocabulary: list[bytes], log_p: np.ndarray) -> None:
        super().__init__(vocabulary)
        # The end never comes.
        self.rows = [self.make_lazy_weights(np.append(row, -np.inf)) for row in log_p]
        self.place = {token: index for index, token in enumerate(vocabulary[: len(log_p)])}

    async def prefix(self, context: list[bytes]) -> float:
        """Nothing is asked."""
        return 0.0

    async def complete(self, context: list[bytes]) -> float:
        """Nothing is asked."""
        return 0.0

    async def logw_next(self, context: list[bytes]) -> object:
        """The law."""
        return self.rows[self.place[context[0]]]


class Accepted(Potential):
    """The predicate: membership in a set."""

    def __init__(self, vocabulary: list[bytes], accepted: set[bytes]) -> None:
        super().__init__(vocabulary)
        self.accepted = accepted

    async def prefix(self, context: list[bytes]) -> float:
        """Zero where the last token is accepted."""
        return 0.0 if context[-1] in self.accepted else float("-inf")

    async def complete(self, context: list[bytes]) -> float:
        """As `prefix`."""
        return await self.prefix(context)


async def measure(sampler: AWRS, contexts: list[list[bytes]]) -> dict[str, float]:
    """Seconds a draw, warm."""
    drawn = [await sampler.sample(context) for context in contexts]
    alone = []
    for context in contexts:
        start = time.perf_counter()
        drawn.append(await sampler.sample(context))
        alone.append(time.perf_counter() - start)
    many = []
    for _ in range(5):
        start = time.perf_counter()
        drawn += await asyncio.gather(*(sampler.sample(context) for context in contexts))
        many.append((time.perf_counter() - start) / len(contexts))
    return {
        "genlm_seconds_alone": statistics.median(alone),
        "genlm_seconds_of_many": statistics.median(many),
        "genlm_mass_estimated": float(np.mean([np.exp(log_weight) for _, log_weight, _ in drawn])),
    }


async def main(path: str) -> None:
    """Measure every predicate."""
    cases = np.load(path)
    log_p = cases["log_p"].astype(np.float64)
    vocabulary = [index.to_bytes(3, "big") for index in range(log_p.shape[1])]
    laws, rows = Laws(vocabulary, log_p), []
    for allowed in cases["accepted"]:
        chosen = {vocabulary[index] for index in np.flatnonzero(allowed)}
        sampler = AWRS(laws, Accepted(vocabulary, chosen), seed=0, autobatch=False)
        rows.append(await measure(sampler, [[token] for token in vocabulary[: len(log_p)]]))
    print(json.dumps(rows))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
