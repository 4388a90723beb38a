"""Ways to start a program once: in a container, or natively if there is no container engine.

Both ways imitate the platform as far as they can: no network, a read-only input behind a symbolic
link, a new output folder, limited memory. The caller gets the same `Run` from either.

Several runs may go on at once, each in its own thread. A process dies with the thread that started
it. A container that a killed caller left behind is removed when its folder of logs is used again.
"""
