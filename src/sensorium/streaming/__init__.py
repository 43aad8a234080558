"""Live streams: windows over incoming chunks, stream sessions and the client."""
