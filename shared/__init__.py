"""The library of the three HECKTOR algorithms: reads and prepares cases, runs models, writes files.

Read `conventions.py` first: it defines axis order, world frame, units and labels.
"""
