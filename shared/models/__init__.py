"""Model folders: the card, the networks in ONNX Runtime, and one file for each task."""
