"""Which compression keeps a budget: files judged beside the float model, and what is tried until one holds."""
