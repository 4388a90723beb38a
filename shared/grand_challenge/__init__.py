"""The interface to the platform: inputs, outputs, and how a job starts and ends.

In the library, only this package reads `/input` and writes to `/output`. `inputs` reads a case,
`outputs` writes the predictions, and `images` reads image files. `job` is the entry point of every
container. It processes one case (exec mode) or runs `server`, which processes many cases (invoke
mode). `signals` ends the process in both modes.
"""
