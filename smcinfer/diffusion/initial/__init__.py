"""Where a reverse diffusion under a reward starts: chains on the noise, tempered paths, or the choice among several draws."""

from smcinfer.diffusion.initial.chains import Annealed, Chain, annealed_chains, chains
from smcinfer.diffusion.initial.noise import Foreseen, Noise
from smcinfer.diffusion.initial.pooled import Pooled
from smcinfer.diffusion.initial.tries import Selected, best_of, selected
from smcinfer.diffusion.initial.ula import ULA

__all__ = [
    "ULA",
    "Annealed",
    "Chain",
    "Foreseen",
    "Noise",
    "Pooled",
    "Selected",
    "annealed_chains",
    "best_of",
    "chains",
    "selected",
]
