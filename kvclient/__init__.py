"""The client library and `kvcli`."""
