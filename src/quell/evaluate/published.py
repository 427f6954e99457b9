"""Scores as the papers computed them, to stand beside their figures; never to choose a method by.

Paper   Di-Fusion: Wu et al., ICLR 2025, its released scoring script.
Trap    Both images are stretched to 0 ... 1 by their own extremes over the whole series, so one
        bright voxel of a result moves its score by several dB, and a result of the wrong scale or
        with an offset is praised like the right one. Air counts as much as brain. The scores of
        `reference.py` do neither.
Paper   Corruption2Self: Tu et al., ICLR 2025, and M4Raw's own test.
Here    The truth is scaled like the scan; the authors average repetitions that were each scaled by
        their own extremes, and the one that is denoised is among them.
Trap    Every volume is stretched to 0 ... 1 by the noisy one's extremes and clipped there: what a
        result has outside is no error. Air counts as much as brain.
Paper   DDM2: Xiang et al., ICLR 2023, its notebook: SNR and CNR of the corpus callosum over the
        noise in air, after every plane was stretched between its own extremes.
Trap    A plane that loses its brightest voxel is stretched further, and has more signal over the
        air of the other planes; flat air makes SNR endless. `snr.py` has neither.
"""

import numpy as np

TINY = 1e-7  # added to the noise by DDM2's notebook, so that flat air gives a large SNR, not inf


def difusion_scores(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM, each the mean over all slices of all volumes, air included.

    estimate  (X, Y, Z) or (X, Y, Z, V)  any unit
    truth     as estimate                any unit

    PSNR is inf if one slice has no error. SSIM has a uniform window of 7 x 7 voxels; NaN for
    slices smaller than it.
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"shapes differ: estimate {estimate.shape}, truth {truth.shape}.")
    return _of_planes(stretched(estimate), stretched(truth))


def c2s_scores(estimate: np.ndarray, truth: np.ndarray, noisy: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM, each the mean over all slices of all volumes, of 0 ... 1 clipped images.

    estimate, truth, noisy  (X, Y, Z, V)  one unit; the extremes of the last one's volumes become
                                          0 and 1

    PSNR is inf if one slice has no error; SSIM NaN for slices smaller than 7 x 7 voxels.
    """
    if not estimate.shape == truth.shape == noisy.shape:
        raise ValueError(f"shapes differ: {estimate.shape}, {truth.shape} and {noisy.shape}.")
    low, high = noisy.min(axis=(0, 1, 2)), noisy.max(axis=(0, 1, 2))
    span = np.where(high > low, high - low, 1)
    return _of_planes(*(np.clip((one - low) / span, 0, 1) for one in (estimate, truth)))


def ddm2_snr(
    data: np.ndarray, callosum: np.ndarray, air: np.ndarray, volumes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SNR and CNR of each volume, (G,) each, of planes between their own extremes.

    data           (X, Y, Z, V)  any unit
    callosum, air  (X, Y, Z)     bool
    volumes        (G,)          which ones
    """
    snr, cnr = np.empty((2, len(volumes)))
    for i, v in enumerate(volumes):
        volume = data[..., v].astype(np.float64)
        low, high = volume.min(axis=(0, 1)), volume.max(axis=(0, 1))
        volume = (volume - low) / np.where(high > low, high - low, 1)
        signal, noise = volume[callosum], volume[air]
        sd = noise.std() + TINY
        snr[i], cnr[i] = signal.mean() / sd, (signal.mean() - noise.mean()) / sd
    return snr, cnr


def stretched(series: np.ndarray) -> np.ndarray:
    """The series between its own extremes, 0 ... 1; zeros where it is constant."""
    low, high = float(series.min()), float(series.max())
    return (series.astype(np.float64) - low) / (high - low if high > low else 1)


def _of_planes(x0_hat: np.ndarray, x0: np.ndarray) -> tuple[float, float]:
    """Mean PSNR and SSIM of the planes, data range 1."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    has_window = min(x0.shape[:2]) >= 7
    psnrs, ssims = [], []
    for where in np.ndindex(x0.shape[2:]):  # slice, volume
        pair = x0[(..., *where)], x0_hat[(..., *where)]
        with np.errstate(divide="ignore"):
            psnrs.append(float(peak_signal_noise_ratio(*pair, data_range=1)))
        if has_window:
            ssims.append(float(structural_similarity(*pair, data_range=1)))
    return float(np.mean(psnrs)), float(np.mean(ssims)) if ssims else float("nan")
