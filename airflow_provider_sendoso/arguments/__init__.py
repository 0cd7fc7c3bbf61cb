"""Arguments as people and templates give them: values that are read strictly, and the sends that are made of them."""
