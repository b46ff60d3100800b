"""How the client and the services reach each other: channels, credentials, spans around calls."""
