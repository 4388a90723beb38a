"""Measurements that take longer than a test should; each module is a command."""
