"""What photographs are like: the magnitude spectrum that MACO holds fixed (server/imagination/parameters.ts). Run, it prints it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pictures import photographs, square_views

# lucid's colour decorrelation; see shared/reference/feature-visualization.md.
COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]]) / 0.461952
CANVAS = 512
RADII = 48
TEXTURE = (70, 90)  # cycles per 512 px


def radial_spectrum(pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Mean |F| over the centred squares of photographs at 512 px: (cycles per 512 px [k], magnitude [3, k]).

    The channels are the decorrelated colours a, b, c with (R, G, B) - .5 = COLOUR (a, b, c). Radii are geometric from 1 to
    256 sqrt(2); each value is the mean over the ring that reaches half-way, geometrically, to its neighbours. To draw another
    canvas, interpolate log magnitude over log cycles (cycles per picture * 512 / size). Only the half of the pictures with the
    most energy at TEXTURE counts: the rest are mostly drawn, smooth wallpapers.
    """
    frequency = np.fft.fftfreq(CANVAS, 1 / CANVAS)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    cycles = np.unique(np.rint(np.geomspace(1, CANVAS / 2 * np.sqrt(2), RADII)))
    ring = np.digitize(radius, np.sqrt(cycles[:-1] * cycles[1:]))
    inside = radius > 0
    counts = np.bincount(ring[inside], minlength=len(cycles))
    inverse = np.linalg.inv(COLOUR)
    spectra = []
    for picture in pictures:
        (view,) = square_views(picture, seed=0, count=1, size=CANVAS)
        decorrelated = (np.asarray(view, np.float64) / 255 - 0.5) @ inverse.T
        magnitude = np.abs(np.fft.fft2(decorrelated.transpose(2, 0, 1)))
        spectra.append([np.bincount(ring[inside], weights=channel[inside], minlength=len(cycles)) / counts for channel in magnitude])
    found = np.array(spectra)
    texture = found[:, 0, (cycles >= TEXTURE[0]) & (cycles <= TEXTURE[1])].mean(axis=1)
    return cycles, found[texture >= np.median(texture)].mean(axis=0)


if __name__ == "__main__":
    cycles, magnitude = radial_spectrum(photographs())
    for ring, *channels in zip(cycles, *magnitude):
        print(f"{ring:g}", *(f"{mean:.4g}" for mean in channels))
