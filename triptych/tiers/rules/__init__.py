"""What the gateway decides by, without HTTP, database or upstream: pure rules and their values."""
