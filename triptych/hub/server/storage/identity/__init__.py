"""Who is asking: accounts, organisations, tokens, sessions, and what each may do."""
