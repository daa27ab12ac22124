"""What surrounds a training: its run, what it is measured and evaluated by, what it shows and saves."""
