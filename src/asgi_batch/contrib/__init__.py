"""Help for one other library each; nothing here is imported unless a user does it."""
