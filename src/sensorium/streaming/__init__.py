"""Live streams: windows over incoming chunks, a session for each stream, and the client."""
