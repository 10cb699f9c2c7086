"""A mirror over HTTP: exact bytes and a catalogue."""
