"""What several machines on one database keep there about themselves."""
