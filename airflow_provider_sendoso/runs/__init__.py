"""One try of a task, for each operator: what it reads, what it sends, and what it says in the end."""
