"""What a person does at a shell: authorise the provider once, take that back, and look after the ledger."""
