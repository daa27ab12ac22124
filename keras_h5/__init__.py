"""Keras 2's layout of weights in HDF5, and files that are there whole or not at all; needs h5py and NumPy alone."""
