"""A batch of rows: columns mapped to fields, the spool on disk, checks before the first send, and the summary."""
