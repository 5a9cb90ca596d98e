"""From what calibration sees to the range of a grid."""
