"""Frames, rewards and states as the network sees them."""
