"""What the papers print, to stand beside quell's own figures; nothing is measured here.

Sources  Di-Fusion: Wu et al., ICLR 2025, its poster, tables 1 and 2 and figure 4. DDM2: Xiang et
         al., ICLR 2023, the outputs stored in its notebook quantitative_metrics. C2S: Tu et al.,
         ICLR 2025, tables of M4Raw, as far as they could be read.
"""

# Poster, table 1: PSNR in dB and SSIM in percent of FA, MD, RD and AD.
MAPS = {
    "noisy": ((23.47, 31.79, 33.56, 26.39), (87.60, 96.35, 96.37, 92.47)),
    "ascm": ((22.63, 21.81, 24.70, 20.89), (88.97, 81.88, 89.21, 81.02)),
    "mppca": ((26.37, 35.28, 36.35, 29.63), (90.48, 97.51, 97.80, 95.34)),
    "noisier2noise": ((29.47, 38.42, 38.48, 34.87), (93.54, 98.51, 98.65, 97.12)),
    "patch2self": ((24.18, 32.16, 30.62, 33.27), (90.90, 97.08, 96.32, 96.77)),
    "ddm2": ((26.77, 37.53, 37.39, 33.21), (90.41, 98.72, 98.48, 96.10)),
    "difusion": ((30.79, 40.26, 40.35, 35.30), (94.50, 99.31, 99.23, 97.63)),
}

# Poster, table 2: PSNR in dB and SSIM in percent, simulations 1 to 5.
LEVELS = {
    "noisy": ((13.72, 11.38), (16.09, 20.65), (20.38, 37.41), (23.76, 52.02), (26.63, 64.62)),
    "patch2self": ((11.20, 24.53), (17.63, 43.94), (24.91, 65.34), (30.26, 78.61), (33.87, 86.13)),
    "noisier2noise": (
        (16.78, 23.72), (22.13, 50.83), (26.80, 71.77), (26.40, 70.32), (32.82, 87.31),
    ),
    "ddm2": ((17.92, 26.02), (21.76, 49.57), (23.25, 59.64), (29.14, 77.96), (31.35, 81.43)),
    "difusion": ((19.91, 39.05), (23.60, 62.02), (26.96, 77.36), (28.69, 83.43), (30.63, 89.52)),
}  # fmt: skip

# DDM2's notebook: change of SNR and of CNR, mean over 150 volumes; of noisy the values themselves.
SNR = {
    "noisy": (5.1141, 4.6567),
    "ddm2": (1.8284, 1.7486),
    "noise2noise": (0.8060, 0.7942),
    "patch2self": (0.1042, 0.0748),
    "noise2score": (-0.5301, -0.5535),
    "deep_image_prior": (-3.0587, -3.0380),
}

# Poster, figure 4: streamlines of the optic radiation that reach the region.
STREAMLINES = {
    "noisy": 3091,
    "ascm": 2590,
    "noisier2noise": 2550,
    "patch2self": 1999,
    "deep_image_prior": 1930,
    "difusion": 1862,
    "ddm2": 681,
}

# C2S, test set of M4Raw, T1: PSNR in dB, SSIM (None where it could not be read).
M4RAW_T1 = {
    "c2s": (32.59, None),
    "c2s with detail refinement": (32.77, 0.919),
    "noise2noise": (32.59, 0.911),
    "noise2self": (31.72, 0.887),
    "r2r": (31.67, 0.876),
    "noise2void": (31.46, 0.870),
}
