"""Turns a case on the grids of its scanner into the region that the networks see."""
