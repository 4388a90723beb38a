"""Fuzzing: numbered hostile cases, each with the outcome that it must have."""
