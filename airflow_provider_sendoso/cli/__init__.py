"""The commands: authorise the provider, revoke its tokens, and inspect and resolve sends in the ledger."""
