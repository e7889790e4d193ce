"""The app behind the page in `demo/`: record, train, transcribe, for people who never saw a command line."""
