"""Ways to start a program once: in a container, or natively if there is no container engine.

Both ways give the program the platform's conditions as far as they can: no network, a read-only
input behind a symbolic link, a new output folder, limited memory. The checks see only the `Run`.

Several runs may go on at once, each in its own thread. No run outlives its caller: a process dies
with the thread that started it, and a container that a killed caller left behind is removed when
its folder of logs is used again.
"""
