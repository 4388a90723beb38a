"""Model folders: the card, the networks in ONNX Runtime, and the three tasks on top of them."""
