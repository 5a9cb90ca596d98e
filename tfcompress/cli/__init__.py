"""The command `tfcompress JOB --flags`: what jobs there are, their flags, and what they do with them."""
