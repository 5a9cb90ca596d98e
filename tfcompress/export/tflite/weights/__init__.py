"""The forms in which a TFLite file stores the integers of weights."""
