"""Personal data: consents, holds, requests over it, erasure and retention."""
