"""The logic of the operators: each module runs one try of a task from a plan, without importing an operator."""
