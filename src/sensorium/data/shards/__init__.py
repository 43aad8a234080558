"""Tables larger than memory: shards with their media inside, written, read and streamed."""
