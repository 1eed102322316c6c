"""Answers that follow a JSON schema, on engines that draw their own tokens."""
