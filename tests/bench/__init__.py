"""How fast the bot is, beside the least that a bot can be; for a quiet machine, so it runs only when it is named."""
