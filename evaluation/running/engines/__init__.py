"""Ways to run a program once: in a container, or natively if there is no container engine.

Both ways imitate the platform as far as they can: no network, a read-only input behind a symbolic
link, a new output folder, limited memory. Both return a `Run`.

Several runs may go on at once, each in its own thread. A process dies with the thread that started
it. If a killed caller leaves a container behind, the next run with the same log folder removes it.
"""
