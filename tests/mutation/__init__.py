"""Mutation testing, started by hand: finds small faults in a module that no test would notice."""
