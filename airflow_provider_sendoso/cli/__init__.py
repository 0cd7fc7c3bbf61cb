"""What a person does at a shell: authorise the provider once, and take that back."""
