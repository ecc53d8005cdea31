"""Pictures from elsewhere: one from an address that a person gave."""
