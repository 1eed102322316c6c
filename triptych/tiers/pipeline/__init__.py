"""One request from its parsed query to its record: flags, selection, dispatch, answer."""
