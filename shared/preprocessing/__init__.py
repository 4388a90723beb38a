"""From a case on the grids of its scanner to the region that the networks see."""
