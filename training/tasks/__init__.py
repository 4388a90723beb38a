"""What differs between segmentation, HPV status and survival in training."""
