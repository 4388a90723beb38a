"""What the three HECKTOR algorithms share: reading, preparing, running models, writing results.

Read `conventions.py` first: it defines axis order, world frame, units and labels.
"""
