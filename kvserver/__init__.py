"""An in-memory key-value server on Trio that speaks the Redis protocol and keeps a journal."""
