"""Hard targets: a tempered run on each, against its exact normaliser, tail and modes.

    python examples/hard_targets.py [--num-particles 1024]

Small dimensions, so that all of them end in a few minutes; the library's defaults are the sizes usually compared.
"""

import argparse

import jax
import numpy as np

import smcinfer
from smcinfer.kernels import GibbsianPolarSlice
from smcinfer.models import hard_targets

TARGETS = {
    "Cauchy, d = 10": (hard_targets.cauchy(10), GibbsianPolarSlice()),
    "hyperplane disk, d = 20": (hard_targets.hyperplane_disk(20), GibbsianPolarSlice()),
    "axial modes, d = 10": (hard_targets.axial_modes(10), GibbsianPolarSlice()),
    "ring of 8 modes": (hard_targets.ring_mixture(), GibbsianPolarSlice()),
    "double wells, d = 8": (hard_targets.double_well(), GibbsianPolarSlice()),
    "funnel, d = 5": (hard_targets.funnel(5, base_scale=1.0), GibbsianPolarSlice(affine=False)),
}


def main(num_particles: int = 1024) -> None:
    """Run every target and print a table."""
    print(f"{'target':<26}{'log Z':>9}{'s.e.':>7}{'exact':>9}{'modes':>9}{'tail':>8}  status")
    for name, (exact, kernel) in TARGETS.items():
        result = smcinfer.sample(
            jax.random.key(0), exact.target, num_particles=num_particles, kernel=kernel, progress=False
        )
        if "theta" in result.particles:
            points = result.particles["theta"]
        else:
            points = np.concatenate([result.particles["neck"][..., None], result.particles["rest"]], axis=-1)
        weights = np.exp(result.pooled_log_weights)
        scalar, mode = jax.jit(jax.vmap(jax.vmap(lambda x, exact=exact: (exact.scalar(x), exact.mode(x)))))(points)
        # The share of draws below the 5% quantile: 0.05 where the tail is right.
        tail = weights[np.asarray(scalar) < exact.law.quantile(0.05)].sum()
        found = f"{len(np.unique(mode))}/{1 if exact.modes is None else len(exact.modes)}"
        print(
            f"{name:<26}{result.log_z:9.3f}{result.log_z_se:7.3f}{exact.log_z:9.3f}{found:>9}{tail:8.3f}"
            f"  {result.status.name or 'OK'}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-particles", type=int, default=1024)
    main(parser.parse_args().num_particles)
