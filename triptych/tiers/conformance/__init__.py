"""What an OpenAI-compatible address keeps of the API, asked with real requests.

`triptych gateway conform ADDRESS` works with any server; nothing here knows which one it asks.
"""
