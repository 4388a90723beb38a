"""Fuzzing: hostile cases by number, and an oracle that knows what must happen to each."""
