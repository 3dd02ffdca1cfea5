"""From image files to training batches: read sources, drop unusable images, split, store, augment.

Start with `sources`, then follow the images through `survey`, `splits` and `batches`.
"""
