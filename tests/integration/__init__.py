"""Tests of the plugin inside a real maubot, with a real homeserver and an end-to-end-encrypted client."""
