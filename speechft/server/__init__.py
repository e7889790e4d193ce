"""Transcription over HTTP, by the protocol that OpenAI's clients speak: many requests, many voices, one batch."""
