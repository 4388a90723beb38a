"""The torch definitions of the networks, for training and export only; not copied into an image."""
