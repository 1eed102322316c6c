"""Write a model in formats other than the Hugging Face folder: GGUF for llama.cpp and Ollama, ONNX.

The Hugging Face layout is the native one and needs no export. Nothing here runs a model; the
command `triptych export` verifies what was written by running it.
"""
