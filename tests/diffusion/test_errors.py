"""Bad input to diffusion models, rewards and targets: a clear error before any work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcinfer import diffusion
from smcinfer.diffusion import alignment, corrected, diffusion_model, discrete, initial, sequence
from smcinfer.ground.errors import ArgumentError, SmcinferError, TargetError
from smcinfer.models import masked_table
from tests.exact_diffusion import normal_model
from tests.signatures import unchecked

VP = diffusion.VariancePreserving()
MODEL = normal_model(VP)


def fine(x: jax.Array) -> jax.Array:
    return -jnp.sum(x**2)


class Rising(diffusion.Cosine):
    """A schedule whose data come back."""

    def alpha(self, time: jax.Array) -> jax.Array:
        return 1.1 - jnp.abs(0.5 - time)


class Vanishing(diffusion.Cosine):
    """A schedule that reaches zero data."""

    end: float = 1.2


CASES: dict[str, tuple[Any, type[SmcinferError], str]] = {
    "shape": (lambda: diffusion_model(lambda x, u: x[:1], VP, (3,)), TargetError, "wrong shape"),
    "no array": (lambda: diffusion_model(lambda x, u: (x, x), VP, (3,)), TargetError, "wrong shape"),
    "raises": (lambda: diffusion_model(lambda x, u: x @ jnp.ones(5), VP, (3,)), TargetError, "when traced"),
    "parameterisation": (lambda: diffusion_model(lambda x, u: x, VP, (3,), parameterisation="x"), ArgumentError, "eps"),
    "rising": (lambda: diffusion_model(lambda x, u: x, Rising(), (3,)), ArgumentError, "not monotone"),
    "vanishing": (lambda: diffusion_model(lambda x, u: x, Vanishing(), (3,)), ArgumentError, "positive"),
    "table": (lambda: diffusion.tabulated(np.array([0.9, 0.95, 0.5])), ArgumentError, "not monotone"),
    "table range": (lambda: diffusion.tabulated(np.array([1.0, 0.0])), ArgumentError, "cumulative"),
    "times": (lambda: alignment(MODEL, fine, times=[1.0, 0.2, 0.5]), ArgumentError, "not monotone"),
    "steps": (lambda: alignment(MODEL, fine, num_steps=0), ArgumentError, "num_steps"),
    "half a step": (lambda: alignment(MODEL, fine, num_steps=10.5), ArgumentError, "num_steps"),
    "steps as text": (lambda: diffusion.power(MODEL, 2.0, num_steps="10"), ArgumentError, "num_steps"),
    "a function": (lambda: alignment(fine, fine), ArgumentError, "diffusion_model"),
    "a class": (lambda: alignment(type(MODEL), fine), ArgumentError, "class"),
    "a chain of a function": (lambda: diffusion.reverse_process(fine), ArgumentError, "diffusion_model"),
    "a power of a function": (lambda: diffusion.power(fine, 2.0), ArgumentError, "diffusion_model"),
    "a product of functions": (lambda: diffusion.product([MODEL, fine]), ArgumentError, "diffusion_model"),
    "a product of one": (lambda: diffusion.product(MODEL), ArgumentError, "list"),
    "a guided function": (lambda: diffusion.guided(fine, MODEL, 2.0), ArgumentError, "diffusion_model"),
    "classifier-free": (lambda: diffusion.classifier_free(MODEL, fine, 2.0), ArgumentError, "diffusion_model"),
    "scale": (lambda: diffusion.classifier_free(MODEL, MODEL, "2"), ArgumentError, "scale"),
    "frames of a function": (
        lambda: sequence(fine, lambda k, x: x, lambda k, x: fine(x), 2, warm_time=0.5),
        ArgumentError,
        "diffusion_model",
    ),
    "rare of a function": (lambda: diffusion.low_density(fine, 0.5), ArgumentError, "diffusion_model"),
    "no function": (lambda: diffusion_model(3.0, VP, (1,)), ArgumentError, "function"),
    "schedule class": (lambda: diffusion_model(fine, diffusion.Cosine, (1,)), ArgumentError, "noise schedule"),
    "shape of halves": (lambda: diffusion_model(fine, VP, (1.5,)), ArgumentError, "shape"),
    "no reward": (lambda: alignment(MODEL, 1.0), ArgumentError, "reward"),
    "temperature as text": (lambda: alignment(MODEL, fine, "cold"), ArgumentError, "temperature"),
    "kernel class": (lambda: alignment(MODEL, fine, kernel=diffusion.DDPM), ArgumentError, "kernel"),
    "led": (lambda: alignment(MODEL, fine, strength="ess", led="yes"), ArgumentError, "led"),
    "start": (lambda: alignment(MODEL, fine, start_std=-1.0), ArgumentError, "start_std"),
    "proposal number": (lambda: alignment(MODEL, fine, proposal=3), ArgumentError, "proposal"),
    "noise of text": (lambda: diffusion.measurement(lambda x: x, [1.0], "small"), ArgumentError, "noise_std"),
    "frames of halves": (
        lambda: sequence(MODEL, lambda k, x: x, lambda k, x: fine(x), 2.5, warm_time=0.5),
        ArgumentError,
        "num_frames",
    ),
    "masked function": (lambda: discrete.alignment(fine, None), ArgumentError, "masked_model"),
    "masked power": (lambda: discrete.power(fine, 2.0), ArgumentError, "masked_model"),
    "masked steps": (
        lambda: discrete.alignment(masked_table.example(2, 2).model, None, num_steps=2.0),
        ArgumentError,
        "num_steps",
    ),
    "initial tries": (
        lambda: initial.selected(alignment(MODEL, fine), 2.0),
        ArgumentError,
        "num_tries",
    ),
    "stop": (lambda: VP.grid(5, stop=2.0), ArgumentError, "outside the schedule"),
    "temperature": (lambda: alignment(MODEL, fine, 0.0), ArgumentError, "temperature"),
    "nan temperature": (lambda: alignment(MODEL, fine, float("nan")), ArgumentError, "temperature"),
    "vector reward": (lambda: alignment(MODEL, lambda x: x), TargetError, "scalar"),
    "nan reward": (lambda: alignment(MODEL, lambda x: jnp.log(-(x[0] ** 2))), TargetError, "not finite"),
    "broken reward": (lambda: alignment(MODEL, lambda x: x["a"]), TargetError, "reward raised"),
    "host shape": (lambda: alignment(MODEL, diffusion.on_host(lambda x: x)), TargetError, "reward"),
    "host gradient": (
        lambda: alignment(MODEL, diffusion.on_host(lambda x: x[:, 0]), proposal="gradient"),
        ArgumentError,
        "no gradient",
    ),
    "kernel": (lambda: alignment(MODEL, fine, kernel="dpm"), ArgumentError, "ddim"),
    "hold": (lambda: diffusion.Exponential(1.0, "score"), ArgumentError, "data | noise"),
    "look": (lambda: alignment(MODEL, fine, look="far"), ArgumentError, "tweedie"),
    "no look": (lambda: alignment(MODEL, fine, look="none", proposal="selection"), ArgumentError, "look-ahead"),
    "roll-out": (lambda: diffusion.RollOut(diffusion.inpainting([True], [1.0], 0.1), MODEL, 0), ArgumentError, "steps"),
    "potential": (lambda: alignment(MODEL, fine, potential="mean"), ArgumentError, "difference"),
    "proposal": (lambda: alignment(MODEL, fine, proposal="best"), ArgumentError, "selection"),
    "children": (lambda: alignment(MODEL, fine, proposal="selection", num_children=0), ArgumentError, "num_children"),
    "every": (lambda: alignment(MODEL, fine, every=0), ArgumentError, "every"),
    "drift every": (lambda: alignment(MODEL, fine, every=2, proposal="gradient"), ArgumentError, "every=1"),
    "strength": (lambda: alignment(MODEL, fine, strength=[1.0, 2.0]), ArgumentError, "strength"),
    "strength word": (lambda: alignment(MODEL, fine, strength="auto"), ArgumentError, "'ess'"),
    "strength max": (lambda: alignment(MODEL, fine, strength="ess", potential="max"), ArgumentError, "difference"),
    "tempering": (lambda: alignment(MODEL, fine, strength="ess", tempering_ess=1.0), ArgumentError, "tempering_ess"),
    "measured": (lambda: diffusion.measurement(lambda x: x, [1.0], 0.0), ArgumentError, "noise"),
    "measured twice": (
        lambda: alignment(MODEL, diffusion.measurement(lambda x: x, [1.0], 0.1), 2.0),
        ArgumentError,
        "nats",
    ),
    "mask": (lambda: diffusion.inpainting([True, False], [1.0], 0.1), ArgumentError, "do not fit"),
    "mask and values": (
        lambda: diffusion.inpainting([1.0, 2.0], [True, False], 0.1),
        ArgumentError,
        "known is no mask",
    ),
    "rare": (lambda: diffusion.low_density(MODEL, 0.0), ArgumentError, "outside"),
    "powers": (lambda: corrected([MODEL], [1.0, 2.0]), ArgumentError, "powers"),
    "powers to nothing": (lambda: corrected([MODEL, MODEL], [1.0, -1.0]), ArgumentError, "positive sum"),
    "powers in time": (lambda: corrected([MODEL], np.ones((6, 1)), num_steps=5), ArgumentError, "log densities"),
    "noise scale": (lambda: corrected([MODEL], [2.0], noise_scale="big"), ArgumentError, "matched"),
    "densities": (lambda: corrected([MODEL], [2.0], log_densities=[]), ArgumentError, "one log density"),
    "corrector reward": (
        lambda: corrected([MODEL], [2.0], reward=diffusion.on_host(lambda x: x[:, 0])),
        ArgumentError,
        "gradient",
    ),
    "probes": (lambda: corrected([MODEL], [2.0], num_probes=4), ArgumentError, "matched"),
    "one probe": (lambda: corrected([MODEL], [2.0], num_probes=1, noise_scale="matched"), ArgumentError, "at least 2"),
    "corrector path": (lambda: corrected([MODEL], [1.0], strength=[0.0, 1.0], reward=fine), ArgumentError, "path"),
    "spaces": (
        lambda: diffusion.product([MODEL, diffusion_model(lambda x, u: x, VP, (2,))]),
        ArgumentError,
        "different shapes",
    ),
    "schedules": (lambda: diffusion.guided(MODEL, normal_model(diffusion.Cosine()), 2.0), ArgumentError, "schedules"),
    "no frames": (
        lambda: sequence(MODEL, lambda k, x: x, lambda k, x: fine(x), 0, warm_time=0.3),
        ArgumentError,
        "num_frames",
    ),
    "warm": (
        lambda: sequence(MODEL, lambda k, x: x, lambda k, x: fine(x), 2, warm_time=1.5),
        ArgumentError,
        "warm_time",
    ),
    "frame proposal": (
        lambda: sequence(MODEL, lambda k, x: x, lambda k, x: fine(x), 2, warm_time=0.5, proposal="selection"),
        ArgumentError,
        "gradient",
    ),
    "frame reward": (lambda: sequence(MODEL, lambda k, x: x, lambda k, x: x, 2, warm_time=0.5), TargetError, "scalar"),
    "value of nothing": (
        lambda: diffusion.soft_value(jax.random.key(0), _walk()),
        ArgumentError,
        "no diffusion",
    ),
}


def _walk() -> Any:
    import numpyro.distributions as dist

    import smcinfer

    walk = smcinfer.process(dist.Normal(0.0, 1.0), lambda t, x: dist.Normal(x, 1.0))
    return smcinfer.compose(walk, lambda t, x: -(x**2), num_steps=2)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case: str) -> None:
    build, error, words = CASES[case]
    with unchecked(), pytest.raises(error, match=words.replace("|", r"\|")):
        build()
