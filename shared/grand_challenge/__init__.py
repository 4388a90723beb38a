"""The platform's contract: where inputs lie, where outputs go, how a job starts and ends.

The only package that knows `/input`, `/output` and sockets. `inputs` reads a case, `outputs` writes
the answers, `images` reads and writes image files. `job` is the entry point of every container: it
answers one case (exec mode), or has `server` answer many (invoke mode); `signals` ends either.
"""
