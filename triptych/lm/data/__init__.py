"""Text in, token shards out: sources, cleaning, deduplication, split, shards, loader, chats."""
