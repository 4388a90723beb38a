"""The library of the three HECKTOR algorithms: reads and prepares cases, runs models, writes files.

Read `conventions.py` first: it defines axis order, world frame, units and labels. "The paper" in a
docstring or comment is Dexl & Ingrisch 2025, of team CDS in HECKTOR 2025 (see README.md).
"""
