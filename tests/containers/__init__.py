"""Runs the containers as the platform does and checks everything that they write.

Start it with `./test_containers.sh`. The checks share no code with the containers: they use only
files and exit codes, and `contract` states the platform's contract independently of our code.
"""
