"""From a picture file to what a model sees of it: what the services do with every picture, and the
client with one to search by. Needs Pillow, HEIC pillow-heif too, and samples of 16 bits numpy.
"""
