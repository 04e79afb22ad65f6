"""Differential privacy: clip each example, add Gaussian noise, count what was spent.

| module | what it does |
| --- | --- |
| `clipping` | the sum of examples, each clipped to a length, on an integer grid |
| `noise` | discrete Gaussian noise, from the caller's random bytes |
| `gaussian` | analytic calibration of one Gaussian release |
| `accountant` | Rényi privacy of many subsampled releases, and its conversion to (epsilon, delta) |

Neighbouring data sets differ by one example added or removed.

Floating-point attacks. A float that was noised shows in its low bits which value it started from (Mironov 2012, "On
significance of the least significant bits"), and a rounded sum can change by more than one clipped example. So nothing
private is a float here: each example is clipped and truncated to integers whose squared length is checked exactly, the
sum is exact, the noise is an integer from a discrete Gaussian (Canonne, Kamath and Steinke 2020), and only the noised
integers are turned into floats. For integer orders the Rényi divergence of shifted discrete Gaussians, subsampled or
not, is that of continuous ones, so the accountant uses integer orders only and its figures hold for this noise exactly.

Limits. Noise is as good as the bytes it is made from: give `os.urandom` or another cryptographic source, never a seeded
generator outside tests. Poisson sampling must be drawn from such a source too, and kept secret. Time does not depend on
the noise except through the cache; a neighbour on the same machine is not defended against.
"""

from .accountant import (
    ORDERS,
    calibrate_noise_multiplier,
    delta_spent,
    epsilon_spent,
    renyi_divergences,
    steps_within,
)
from .clipping import clipped_sum, grid_steps
from .gaussian import calibrate_deviation, gaussian_delta, gaussian_epsilon
from .noise import DEVIATION, NoiseTable, discrete_gaussian, noise_table, private_mean

__all__ = [
    "DEVIATION",
    "ORDERS",
    "NoiseTable",
    "calibrate_deviation",
    "calibrate_noise_multiplier",
    "clipped_sum",
    "delta_spent",
    "discrete_gaussian",
    "epsilon_spent",
    "gaussian_delta",
    "gaussian_epsilon",
    "grid_steps",
    "noise_table",
    "private_mean",
    "renyi_divergences",
    "steps_within",
]
