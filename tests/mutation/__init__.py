"""Mutation testing, started by hand: which small faults in a module would no test notice."""
