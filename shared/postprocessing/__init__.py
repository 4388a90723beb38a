"""From a network's label map on the region to a clean label map on the CT's own grid."""
