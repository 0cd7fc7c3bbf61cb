"""The receiver of Sendoso's webhooks: checks their signatures, and stores in the ledger which sends have changed."""
