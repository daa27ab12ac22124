"""Atari games as Gymnasium environments, here or in processes of their own. Importing this package loads no Keras."""
