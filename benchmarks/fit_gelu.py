"""Derive the coefficients of the float32 GELU in vitseek.nn.activations, and print its error.

    python -m benchmarks.fit_gelu

GELU(x) = x Φ(x), and Φ(x) = (1 + tanh h(x)) / 2 with the odd, smooth function h(x) = log(Φ / (1 - Φ)) / 2. The fit is
h(x) = x p(x²), where p is the polynomial that minimises the largest absolute error of GELU on [0, 5.5] (beyond that,
1 - Φ(x) < 2e-8 and only the sign of the leading coefficient matters): Lawson's algorithm, that is least squares whose
weights are multiplied by the error until all peaks are equal.
"""

import math

import numpy as np

from vitseek.nn.activations import GELU_COEFFICIENTS, gelu

LIMIT = 5.5
POINTS = 4000
ROUNDS = 2000


def fit(degree: int) -> tuple[np.ndarray, float]:
    """Return the coefficients of p, constant first, and the largest absolute error of GELU."""
    x = LIMIT * (1 - np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)) / 2  # Chebyshev points
    upper = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in x])  # 1 - Φ, exact where it is tiny
    target = (np.log1p(-upper) - np.log(upper)) / (2 * x)
    slope = 2 * x * upper * (1 - upper) * x  # of GELU with respect to p
    basis = np.polynomial.chebyshev.chebvander(x**2 / LIMIT**2 * 2 - 1, degree)
    emphasis = np.full(POINTS, 1 / POINTS)
    best, largest = np.zeros(degree + 1), math.inf
    for _ in range(ROUNDS):
        scale = np.sqrt(emphasis) * slope
        coefficients = np.linalg.lstsq(basis * scale[:, None], target * scale)[0]
        error = np.abs((basis @ coefficients - target) * slope)
        if error.max() < largest:
            best, largest = coefficients, float(error.max())
        emphasis *= error
        emphasis /= emphasis.sum()
    power = np.polynomial.Chebyshev(best, domain=[0, LIMIT**2]).convert(kind=np.polynomial.Polynomial)
    return power.coef, largest


def main() -> None:
    for degree in range(4, 9):
        coefficients, error = fit(degree)
        print(f"degree {degree}: largest error {error:.1e}, leading coefficient {coefficients[-1]:+.1e}")
    coefficients, _ = fit(len(GELU_COEFFICIENTS) - 1)
    print("coefficients:", ", ".join(f"{value:.9e}" for value in coefficients))
    x = np.linspace(-20, 20, 1_000_001).astype(np.float32)
    exact = np.array([value / 2 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()])
    error_f32 = np.abs(gelu(x) - exact)
    print(f"float32, |x| <= 20: largest error {error_f32.max():.1e}; |x| <= 2: {error_f32[np.abs(x) <= 2].max():.1e}")


if __name__ == "__main__":
    main()
