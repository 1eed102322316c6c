"""What the hub keeps: files, git repositories and accounts. Nothing here needs a request."""
