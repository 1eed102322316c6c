"""The gateway's HTTP wire: bodies, requests, replies and the protocol of uvicorn."""
