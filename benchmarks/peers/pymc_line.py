"""The posterior of the README's first example by PyMC's sequential Monte Carlo.

    python benchmarks/peers/pymc_line.py

Prints JSON: CPU seconds of this process and of the compilers that it called, imports included. Nothing that an earlier process
compiled is read.
"""

import json
import os
import resource
import tempfile


def main() -> None:
    """Sample, and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        # Read on import.
        os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={folder}"
        import numpy as np
        import pymc

        x = np.linspace(-2.0, 2.0, 20)
        y = 1.0 + 0.5 * x + 0.3 * np.sin(9.0 * x)
        with pymc.Model():
            line = pymc.Normal("line", 0.0, 2.0, shape=2)
            noise = pymc.HalfNormal("noise", 1.0)
            pymc.Normal("y", line[0] + line[1] * x, noise, observed=y)
            trace = pymc.sample_smc(1000, chains=4, cores=1, random_seed=1, progressbar=False)
        spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        mean = trace.posterior["line"].mean(("chain", "draw")).values.tolist()
        print(json.dumps({"total": sum(one.ru_utime + one.ru_stime for one in spent), "mean": mean}))


if __name__ == "__main__":
    main()
