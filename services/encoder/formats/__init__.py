"""How each family's files become one model: its shape, and weights named as openai/CLIP does."""
