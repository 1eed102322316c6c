"""Large bodies between a socket and a file, with or without the event loop."""
