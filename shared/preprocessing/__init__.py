"""From a case on its scanner's grids to the region that the networks see, and the way back."""
