"""Tests of the program that logs the bot in, signs its device and makes its instance: chart/files/provision.py."""
