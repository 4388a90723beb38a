"""Runs the three containers as the platform does and checks all that they write.

`./test_containers.sh` is the way in. The checker shares no code with the containers: it judges
them by files and exit codes alone, with its own reading of the platform's contract.
"""
