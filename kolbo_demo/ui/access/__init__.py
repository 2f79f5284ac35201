"""The API and the key that a visitor uses, and limits on a shared key."""
