"""The encoder service: texts and images in, unit vectors of one CLIP model out."""
