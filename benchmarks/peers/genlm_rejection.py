"""genlm-control's adaptive weighted rejection sampling on given laws and a given set of accepted tokens.

    python benchmarks/peers/genlm_rejection.py cases.npz

``cases.npz`` holds ``log_p`` (cases, V) and ``accepted`` (cases, V). Prints JSON: seconds a draw and the mean weight.
"""

import asyncio
import json
import sys
import time

import numpy as np
from genlm.control import AWRS, Potential


class Law(Potential):
    """One law of the next token, whatever came before."""

    def __init__(self, vocabulary: list[bytes], log_p: np.ndarray) -> None:
        super().__init__(vocabulary)
        self.log_p = log_p

    async def prefix(self, context: list[bytes]) -> float:
        """Nothing is asked."""
        return 0.0

    async def complete(self, context: list[bytes]) -> float:
        """Nothing is asked."""
        return 0.0

    async def logw_next(self, context: list[bytes]) -> object:
        """The law; the end never comes."""
        return self.make_lazy_weights(np.append(self.log_p, -np.inf))


class Accepted(Potential):
    """The predicate: membership in a set."""

    def __init__(self, vocabulary: list[bytes], accepted: set[bytes]) -> None:
        super().__init__(vocabulary)
        self.accepted = accepted

    async def prefix(self, context: list[bytes]) -> float:
        """Zero where the last token is accepted."""
        return 0.0 if not context or context[-1] in self.accepted else float("-inf")

    async def complete(self, context: list[bytes]) -> float:
        """As `prefix`."""
        return await self.prefix(context)


async def main(path: str) -> None:
    """Draw from every case several times."""
    cases = np.load(path)
    log_p, accepted = cases["log_p"].astype(np.float64), cases["accepted"]
    vocabulary = [index.to_bytes(3, "big") for index in range(log_p.shape[1])]
    weights, seconds = [], 0.0
    for law, allowed in zip(log_p, accepted, strict=True):
        chosen = {vocabulary[index] for index in np.flatnonzero(allowed)}
        sampler = AWRS(Law(vocabulary, law), Accepted(vocabulary, chosen), seed=0)
        await sampler.sample([])
        start = time.perf_counter()
        for _ in range(4):
            _, log_weight, _ = await sampler.sample([])
            weights.append(np.exp(log_weight))
        seconds += time.perf_counter() - start
    print(json.dumps({"seconds_a_draw": seconds / len(weights), "mean_weight": float(np.mean(weights))}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
