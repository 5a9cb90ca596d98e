"""What a file needs on an NPU, by the estimates of the NPU's own compiler."""
