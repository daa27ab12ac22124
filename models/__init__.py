"""The network, and the files that hold its weights. Importing this package loads no Keras."""
