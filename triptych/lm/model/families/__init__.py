"""The families of decoders that are built here, and how each writes its `config.json`."""
