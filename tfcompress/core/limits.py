"""The largest numbers that arguments may be; known without Keras, before whose import flags are described."""

from __future__ import annotations

MOST = 2**31 - 1
"""Of whatever is counted: steps, samples and sizes of tensors are 32 bit numbers in the runtimes."""

MOST_THREADS = 256
"""Of one inference: more than any machine is made for, and few enough that all of them can be started."""

MOST_DEVICES = 256
"""Of one machine. Virtual ones cost time and memory each."""
