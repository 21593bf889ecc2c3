"""Queues that other libraries bring; nothing here is imported unless a user does it."""
