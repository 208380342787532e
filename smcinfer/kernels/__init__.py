"""Move kernels: each leaves a tempered density invariant and is tuned by the particle cloud.

`RandomWalk`, `Independent`, `MALA`, `HMC` and `NUTS` are here, the slice samplers `GibbsianPolarSlice`, `PolarSlice`,
`HitAndRun` and `EllipticalSlice`, and `CrankNicolson` and `CrankNicolsonLangevin`; `from_blackjax` makes one of any
blackjax sampler, and `as_blackjax` a blackjax sampler of any kernel. `by_name` gives them by name.
"""

from smcinfer.ground import lazy

lazy.open_doors(__name__)
