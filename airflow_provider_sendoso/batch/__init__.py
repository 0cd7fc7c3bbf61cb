"""A batch around the protocol: columns to fields, the spool on disk, the counts at the end."""
