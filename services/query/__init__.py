"""The query service: text, image, id or vector in; the images of a collection that fit it out."""
